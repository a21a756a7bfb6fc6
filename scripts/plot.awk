# Sourced by the scripts that draw: awk "$(cat scripts/plot.awk) ..."; an SVG is printed from `picture` to `finish`.

function picture(width, height) {
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" font-family=\"sans-serif\" font-size=\"13\">\n", width, height
    printf "<rect width=\"%g\" height=\"%g\" fill=\"white\"/>\n", width, height
}
function finish() { print "</svg>" }
function text(left, top, anchor, words) {
    gsub(/</, "\\&lt;", words)
    printf "<text x=\"%g\" y=\"%g\" text-anchor=\"%s\">%s</text>\n", left, top, anchor, words
}
function line(points, colour) { printf "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", points, colour }
function dashed(points, colour) {
    printf "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-dasharray=\"6 4\"/>\n", points, colour
}
function dot(x, y, colour) { printf "<circle cx=\"%g\" cy=\"%g\" r=\"4\" fill=\"%s\"/>\n", x, y, colour }
function bar(left, top, width, height, colour) {
    printf "<rect x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\" fill=\"%s\"/>\n", left, top, width, height, colour
}
# colour N : of the first six things that are told apart.
function colour(n) { return substr("#888#06c#0a6#e80#c00#639", 4 * n - 3, 4) }

# legend Y NAMES : their colours beside the names, which are words.
function legend(y, names,    name, count, wide, i) {
    count = split(names, name, " "); wide = 600 / count
    for (i = 1; i <= count; i++) { bar(60 + wide * (i - 1), y - 10, 10, 10, colour(i)); text(75 + wide * (i - 1), y, "start", name[i]) }
}

# round_up VALUE : 1, 2 or 5 times a power of ten, at least VALUE.
function round_up(value,    unit) {
    unit = 10 ^ int(log(value) / log(10) - (value < 1))
    return value <= unit ? unit : value <= 2 * unit ? 2 * unit : value <= 5 * unit ? 5 * unit : 10 * unit
}

# A panel is 250 pixels high, from TOP, where its title is: values between two heights, and below them what they are of, `under`.
function under(top, x, label) { text(x, top + 228, "middle", label) }
# mark Y VALUE : one of the grey lines that values are read from.
function mark(y, value) {
    printf "<line x1=\"60\" x2=\"660\" y1=\"%g\" y2=\"%g\" stroke=\"#ddd\"/>\n", y, y
    text(54, y + 4, "end", value)
}
# even TOP VALUE MOST : the height of a value in a panel from 0 to MOST.
function even(top, value, most) { return top + 210 - 190 * value / most }
function even_panel(top, title, most,    value, step) {
    text(60, top, "start", title)
    step = round_up(most / 5)
    for (value = 0; value <= most; value += step) mark(even(top, value, most), value)
}
# power TOP VALUE FIRST LAST : in a panel from one power of ten to another one, on a logarithmic scale; what is beyond them is at the edge.
function power(top, value, first, last) {
    return value <= first ? top + 210 : value >= last ? top + 20 : top + 210 - 190 * log(value / first) / log(last / first)
}
function power_panel(top, title, first, last,    value) {
    text(60, top, "start", title)
    for (value = first; value <= last; value *= 10) mark(power(top, value, first, last), value)
}
# place GROUP COUNT : the middle of one of so many groups side by side.
function place(group, count) { return 60 + 600 * (group - 0.5) / count }
function greatest(value,    which, most) { for (which in value) if (value[which] > most) most = value[which]; return most }

# bars TOP TITLE COUNT LABEL SERIES VALUE : a panel with COUNT groups of SERIES bars; VALUE[group, series] is at least 0, and no bar where it is missing.
function bars(top, title, count, label, series, value,    group, one, most, wide, y) {
    most = greatest(value)
    even_panel(top, title, most)
    wide = 0.8 * 600 / count / series
    for (group = 1; group <= count; group++) {
        for (one = 1; one <= series; one++) if ((group, one) in value) {
            y = even(top, value[group, one], most)
            bar(place(group, count) + wide * (one - 1 - series / 2), y, wide - 1, top + 210 - y, colour(one))
        }
        under(top, place(group, count), label[group])
    }
}

# courses TOP COUNT LABEL SERIES Y : in a panel, a line for each of SERIES through its COUNT points at the heights Y[group, series], where it has one.
function courses(top, count, label, series, y,    group, one, points) {
    for (one = 1; one <= series; one++) {
        points = ""
        for (group = 1; group <= count; group++) if ((group, one) in y) {
            points = points place(group, count) "," y[group, one] " "
            dot(place(group, count), y[group, one], colour(one))
        }
        line(points, colour(one))
    }
    for (group = 1; group <= count; group++) under(top, place(group, count), label[group])
}
