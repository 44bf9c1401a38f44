//! Plays every scenario in `tests/scenarios` and compares what happens with what is written there.
//!
//! `REWRITE=1 cargo test -p pbft-sim --test scenarios` writes the transcripts anew; read the difference.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::path::Path;

use pbft_sim::scenario::play;

#[test]
fn every_scenario_goes_as_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let rewrite = std::env::var_os("REWRITE").is_some();
    let mut played = 0;
    let mut wrong = Vec::new();
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files {
        let script = std::fs::read_to_string(&path).unwrap();
        let transcript = match play(&script) {
            Ok(transcript) => transcript,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        played += 1;
        if transcript == script {
            continue;
        }
        if rewrite {
            std::fs::write(&path, transcript).unwrap();
            continue;
        }
        let (mut is, mut was) = (transcript.lines(), script.lines());
        let differs = loop {
            match (is.next(), was.next()) {
                (one, other) if one != other => break format!("{other:?} is now {one:?}"),
                (None, None) => break "line ends".to_owned(),
                _ => {}
            }
        };
        wrong.push(format!("{}: {differs}", path.display()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(played >= 15, "only {played} scenarios were found");
}

#[test]
fn what_is_no_command_is_refused_with_its_line() {
    let error = play("> cluster 4\n> fly r0\n").unwrap_err();
    assert_eq!((error.line, error.fault.as_str()), (2, "no such command: fly r0"));
    assert_eq!(play("> show\n").unwrap_err().line, 1);
    assert!(play("> cluster 4\n> stop r9\n").unwrap_err().fault.contains("no replica 9"));
    assert!(play("> cluster 0\n").unwrap_err().fault.contains("members"));
}
