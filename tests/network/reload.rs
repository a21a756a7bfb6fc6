//! Aim: a config that is edited while weir runs, and is applied by itself once the edit has settled.

use crate::support::{Family, Layout, Load, answers, failures, run, wait_until};
use std::net::SocketAddr;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);

/// Nobody sends a signal: the file alone is written: half of it, then all of it in place, then another one by a rename.
#[test]
fn an_edit_is_applied_once_it_has_settled() {
    run("reload_watch", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.config.more = "[reload]\nwatch = true\n".into();
        let complete = lab.config.clone();
        lab.config.backends("web-v4").pop();
        let fewer = lab.config.clone();
        lab.start_weir();
        let load = Load::start(&lab.client, &[SocketAddr::new(Family::V4.vip(), 80)], 1);
        load.wait_for(50);

        let path = lab.weir().config_path().to_owned();
        let whole = std::fs::read(&path).expect("the config");
        std::fs::write(&path, &whole[..whole.len() - 20]).expect("half a config");
        wait_until("the refusal in the log", SOON, || lab.weir().log().contains("reload refused").then_some(()));
        assert_eq!(lab.weir().status()["generation"], 1);
        // In place: it means what is in force.
        std::fs::write(&path, &whole).expect("a config");
        wait_until("the whole file to be read", SOON, || lab.weir().log().contains("the file changes nothing").then_some(()));
        // As editors do it, by a rename.
        lab.weir().write_config(&complete);
        wait_until("answers of b3", SOON, || answers(&load.outcomes()).get("b3").map(|_| ()));
        assert_eq!(lab.weir().status()["generation"], 2);
        lab.weir().write_config(&fewer);
        wait_until("generation 3", SOON, || (lab.weir().status()["generation"] == 3).then_some(()));
        load.wait_for(100);
        let outcomes = load.stop();
        assert_eq!(failures(&outcomes), [""; 0]);
        assert!(!answers(&outcomes[outcomes.len() - 80..]).contains_key("b3"), "b3 is out again");
    });
}
