//! What weir, IPVS and nftables full-NAT answer in the same situations: behaviour, not speed. Client and backend are played packet by
//! packet, so that nothing comes from their kernels; the table that comes out is kept in docs/comparison.md.

mod packet;
mod rival;
mod seen;
mod situations;
mod street;
mod wire;

use crate::guest::{Scenario, step};
use rival::Rival;
use situations::SITUATIONS;
use street::Street;

/// The lines between these two are the table; scripts/zero-copy-vm.sh looks for them.
const BEGIN: &str = "---- table";
const END: &str = "---- end of the table";

pub(crate) fn scenario() -> Scenario {
    Scenario::new("weir_ipvs_and_nftables", || {
        let columns: Vec<Vec<String>> = Rival::ALL.iter().map(|rival| step(rival.name(), || answers(*rival))).collect();
        println!("{BEGIN}");
        print!("| situation |");
        Rival::ALL.iter().for_each(|rival| print!(" {} |", rival.name()));
        println!("\n|---|{}", "---|".repeat(columns.len()));
        for (number, situation) in SITUATIONS.iter().enumerate() {
            print!("| {} |", situation.text);
            columns.iter().for_each(|answers| print!(" {} |", answers[number]));
            println!();
        }
        println!("{END}");
        for (column, rival) in columns.iter().zip(Rival::ALL) {
            assert!(
                column[0].contains("SYN") && column[0].contains("data"),
                "{} does not balance at all: {}",
                rival.name(),
                column[0]
            );
        }
    })
}

/// One column: a fresh street for each, so that no state is left of the one before.
fn answers(rival: Rival) -> Vec<String> {
    let mut street = Street::new();
    let running = rival.start(&street);
    let answers = SITUATIONS.iter().map(|situation| (situation.play)(&mut street).to_string()).collect();
    if let Some(weir) = running.weir {
        println!("    weir's drops: {:?}", weir.drops());
    }
    answers
}
