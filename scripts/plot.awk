# Sourced by the scripts that draw: awk "$(cat scripts/plot.awk) ..."; an SVG is printed from `picture` to `finish`.

function picture(width, height) {
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" font-family=\"sans-serif\" font-size=\"13\">\n", width, height
    printf "<rect width=\"%g\" height=\"%g\" fill=\"white\"/>\n", width, height
}
function finish() { print "</svg>" }
function text(left, top, anchor, words) { printf "<text x=\"%g\" y=\"%g\" text-anchor=\"%s\">%s</text>\n", left, top, anchor, words }
function line(points, colour) { printf "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", points, colour }
# rule Y : one of the grey lines across that values are read from.
function rule(y) { printf "<line x1=\"60\" x2=\"660\" y1=\"%g\" y2=\"%g\" stroke=\"#ddd\"/>\n", y, y }
function bar(left, top, width, height, colour) {
    printf "<rect x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\" fill=\"%s\"/>\n", left, top, width, height, colour
}
# colour N : of the first six things that are told apart.
function colour(n) { return substr("#888#06c#0a6#e80#c00#639", 4 * n - 3, 4) }

# legend Y NAMES : their colours beside the names, which are words.
function legend(y, names,    name, count, i) {
    count = split(names, name, " ")
    for (i = 1; i <= count; i++) { bar(60 + 110 * (i - 1), y - 10, 10, 10, colour(i)); text(75 + 110 * (i - 1), y, "start", name[i]) }
}

# round_up VALUE : 1, 2 or 5 times a power of ten, at least VALUE.
function round_up(value,    unit) {
    unit = 10 ^ int(log(value) / log(10) - (value < 1))
    return value <= unit ? unit : value <= 2 * unit ? 2 * unit : value <= 5 * unit ? 5 * unit : 10 * unit
}

# bars TOP TITLE COUNT LABEL SERIES VALUE : a panel of 250 pixels with COUNT groups of SERIES bars; VALUE[group, series] is at least 0, and no bar where
# it is missing.
function bars(top, title, count, label, series, value,    group, one, step, most, wide, place) {
    for (place in value) if (value[place] > most) most = value[place]
    step = round_up(most / 5)
    text(60, top, "start", title)
    for (one = 0; one * step <= most; one++) { rule(top + 210 - one * step * 190 / most); text(54, top + 214 - one * step * 190 / most, "end", one * step) }
    wide = 600 / count
    for (group = 1; group <= count; group++) {
        for (one = 1; one <= series; one++) if ((group, one) in value)
            bar(60 + wide * (group - 1 + 0.1 + 0.8 * (one - 1) / series), top + 210 - value[group, one] * 190 / most, wide * 0.8 / series - 1,
                value[group, one] * 190 / most, colour(one))
        text(60 + wide * (group - 0.5), top + 228, "middle", label[group])
    }
}
