//! The generals through their command line: the names, JSON fields and exit codes that others build on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use pbft_tests::{code, stderr, stdout};
use serde_json::{Value, json};

fn generals(words: &[&str]) -> Output {
    let mut path = pbft_tests::binary();
    path.set_file_name("generals");
    assert!(path.exists(), "{} is missing: cargo build --example generals", path.display());
    Command::new(path).args(words).output().unwrap()
}

fn run(words: &str) -> Output {
    generals(&words.split_whitespace().collect::<Vec<_>>())
}

fn json_of(words: &str) -> Value {
    let output = run(&format!("{words} --json"));
    assert_eq!(code(&output), 0, "{words}: {}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// A file in a directory of its own.
struct File(tempfile::TempDir);

impl File {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), text).unwrap();
        File(directory)
    }

    fn path(&self) -> String {
        self.0.path().join("file").to_str().unwrap().to_owned()
    }
}

#[test]
fn om_has_the_fields_of_its_interface() {
    assert_eq!(
        json_of("om --n 4 --m 1 --traitors 3 --strategy flip"),
        json!({"decisions": {"2": 1, "4": 1}, "sent": [3, 6], "messages": 9, "IC1": true, "IC2": true})
    );
    let three = json_of("om --n 3 --m 1 --traitors 3 --strategy flip");
    assert_eq!((&three["decisions"], &three["IC2"]), (&json!({"2": 0}), &json!(false)));
    let silent = json_of("om --n 4 --m 1 --traitors 3 --strategy silent --commander 2 --value -7");
    assert_eq!(silent["decisions"], json!({"1": -7, "4": -7}));
    assert_eq!(silent["sent"], json!([3, 4]));
    let none = json_of("om --n 7 --m 2 --value 5");
    assert_eq!(none["sent"], json!([6, 30, 120]));
    assert_eq!(json_of("om --n 2 --m 0")["decisions"], json!({"2": 1}));
    let split = json_of("om --n 4 --m 0 --traitors 1 --strategy split");
    assert_eq!(split["decisions"], json!({"2": 0, "3": 1, "4": 0}));
    assert_eq!((&split["IC1"], &split["IC2"]), (&json!(false), &json!(true)));
    // Values beyond 64 bits come out as they went in.
    let wide = run("om --n 4 --m 1 --value 170141183460469231731687303715884105727 --json");
    assert!(stdout(&wide).contains("\"2\":170141183460469231731687303715884105727"));
}

#[test]
fn tables_choices_and_defaults() {
    let table = File::new(r#"{"1>3": 0, "1>2>3": null, "1>4": null}"#);
    let path = table.path();
    // 1 tells 2 the truth, 3 a lie and 4 nothing; 2 is silent to 3.
    let words = format!("om --n 4 --m 1 --traitors 1,2 --table {path} --default 9");
    let outcome = json_of(&words);
    // 3 has 0 direct, nothing (9) by 2 and 9 by 4; 4 has 9 direct, 1 by 2, 0 by 3.
    assert_eq!(outcome["decisions"], json!({"3": 9, "4": 9}));
    assert_eq!(outcome["sent"], json!([2, 5]));
    let outcome = json_of(&format!("{words} --choice median"));
    assert_eq!(outcome["decisions"], json!({"3": 9, "4": 1}));
    let idle = File::new(r#"{"1>3>2": 0, "1>2": 0}"#);
    let output = run(&format!("om --n 4 --m 1 --traitors 3 --table {} --json", idle.path()));
    assert_eq!(code(&output), 0);
    assert!(stderr(&output).contains("1>2"), "{}", stderr(&output));
}

#[test]
fn vector_has_the_fields_of_its_interface() {
    let outcome = json_of("vector --n 4 --m 1 --traitors 2 --values 10,-20,30,40 --strategy pair");
    assert_eq!(outcome["agree"], true);
    let vector = json!([10, 111, 30, 40]);
    assert_eq!(outcome["vectors"], json!({"1": vector, "3": vector, "4": vector}));
    assert_eq!((&outcome["sent"], &outcome["packets"]), (&json!([12, 24]), &json!([12, 12])));
    assert_eq!(code(&run("vector --n 4 --m 1 --values 1,2,3")), 2);
}

#[test]
fn sm_has_the_fields_of_its_interface() {
    let split = File::new(r#"{"1": [[1, 2, 1, [1]], [1, 3, 0, [1]]]}"#);
    let outcome = json_of(&format!("sm --n 3 --m 1 --traitors 1 --script {}", split.path()));
    assert_eq!(outcome["decisions"], json!({"2": 0, "3": 0}));
    assert_eq!(outcome["V"], json!({"2": [0, 1], "3": [0, 1]}));
    assert_eq!((&outcome["sent"], &outcome["dropped"]), (&json!([2, 2]), &json!(0)));
    assert_eq!((&outcome["IC1"], &outcome["IC2"]), (&json!(true), &json!(true)));
    let late = File::new(r#"{"2": [[4, 2, 1, [1]], [4, 3, 1, [1, 4]]]}"#);
    let outcome = json_of(&format!("sm --n 4 --m 1 --traitors 4 --script {}", late.path()));
    assert_eq!((&outcome["dropped"], &outcome["sent"]), (&json!(1), &json!([3, 6])));
    let silent = json_of("sm --n 4 --m 2 --traitors 1 --default 8 --choice median");
    assert_eq!(silent["decisions"], json!({"2": 8, "3": 8, "4": 8}));
    assert_eq!(silent["V"], json!({"2": [], "3": [], "4": []}));
    let forged = File::new(r#"{"2": [[4, 2, 0, [1, 4]]]}"#);
    let output = run(&format!("sm --n 4 --m 1 --traitors 4 --script {}", forged.path()));
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("loyal general 1"), "{}", stderr(&output));
}

#[test]
fn the_lectures_cases_print_the_lectures_numbers() {
    let outcome = json_of("exercise7");
    assert_eq!((&outcome["received"], &outcome["agree"]), (&json!([6, 30, 120]), &json!(true)));
    let vectors = outcome["vectors"].as_object().unwrap();
    assert_eq!(vectors.keys().collect::<Vec<_>>(), ["3", "4", "5", "6", "7"]);
    assert!(vectors.values().all(|vector| vector == &outcome["vector"]));
    assert_eq!(outcome["vector"].as_array().unwrap()[2..], [30, 40, 50, 60, 70].map(Value::from));
    let text = stdout(&run("exercise7"));
    for words in [
        "6 usable values",
        "30 usable values",
        "120 usable values",
        "All 5 loyal vectors are equal",
    ] {
        assert!(text.contains(words), "{words}");
    }
    let matrix = json_of("matrix");
    assert_eq!((&matrix["packets"], &matrix["values"]), (&json!(24), &json!(36)));
    let (default, twelve) = (json!([0, 21, 31, 41]), json!([12, 21, 31, 41]));
    let all = |vector: &Value| json!({"2": vector, "3": vector, "4": vector});
    assert_eq!(matrix["majority"]["vectors"], all(&default));
    assert_eq!(matrix["median"]["vectors"], all(&twelve));
}

#[test]
fn search_finds_what_there_is_and_its_finding_can_be_played() {
    let four = json_of("search --n 4 --m 1 --traitors 1");
    assert_eq!(
        (&four["found"], &four["exhaustive"], &four["tried"]),
        (&json!(false), &json!(true), &json!(8))
    );
    assert_eq!(json_of("search --n 4 --m 1")["tried"], 32);
    let three = json_of("search --n 3 --m 1 --traitors 3");
    assert_eq!(three["strategy"], json!({"1>3>2": 0}));
    assert_eq!(three["decisions"], json!({"2": 0}));
    let six = json_of("search --n 6 --m 2 --traitors 5,6");
    assert_eq!((&six["found"], &six["exhaustive"]), (&json!(true), &json!(false)));
    let table = File::new(&six["strategy"].to_string());
    let (value, path) = (&six["value"], table.path());
    let again = json_of(&format!("om --n 6 --m 2 --traitors 5,6 --value {value} --table {path}"));
    assert_eq!(again["decisions"], six["decisions"]);
    assert!(again["IC1"] == false || again["IC2"] == false);
}

#[test]
fn what_cannot_be_computed_is_exit_2_and_the_rest_is_0() {
    for words in [
        "om --n 4 --m 3",
        "om --n 1 --m 0",
        "om --n 100 --m 1",
        "om --n 20 --m 6",
        "om --n 99 --m 97",
        "om --n 4 --m 1 --commander 5",
        "om --n 4 --m 1 --commander 0",
        "om --n 4 --m 1 --traitors 5",
        "om --n 4 --m 1 --traitors x",
        "om --n 4 --m 1 --strategy nonsense",
        "om --n 4 --m 1 --table /nonexistent",
        "om --n 4 --m 1 --table /dev/null --strategy flip",
        "om --n 4 --m 1 --value 1.5",
        "om --n 3 --m 1 --strict",
        "om --m 1",
        "vector --n 99 --m 3",
        "sm --n 4 --m 3",
        "sm --n 3 --m 1 --script /nonexistent",
        "search --n 4 --m 3 --traitors 1",
        "nonsense",
    ] {
        assert_eq!(code(&run(words)), 2, "{words}");
    }
    let warned = run("om --n 3 --m 1 --traitors 3 --json");
    assert_eq!(code(&warned), 0);
    assert!(stderr(&warned).contains("n = 3 is not above 3m = 3"), "{}", stderr(&warned));
    let quiet = run("om --n 4 --m 1 --traitors 3 --strict --json");
    assert_eq!((code(&quiet), stderr(&quiet)), (0, String::new()));
    assert_eq!(code(&generals(&["om", "--n", "4", "--m", "1", "--traitors", ""])), 0);
    assert_eq!(code(&run("om --n 4 --m 2 --traitors 1,2,3,4 --json")), 0);
}

#[test]
fn ten_and_thirteen_generals_are_quick_and_do_not_flood_the_terminal() {
    let since = Instant::now();
    let text = stdout(&run("om --n 10 --m 3 --traitors 1,2,3 --strategy hash:1"));
    assert!(text.contains("3609 messages in all"), "{text}");
    assert!(text.lines().count() < 250, "{}", text.lines().count());
    // The limits of the release build; a debug build takes several times as long.
    let slow = if cfg!(debug_assertions) { 20 } else { 1 };
    assert!(since.elapsed() < slow * Duration::from_secs(1), "{:?}", since.elapsed());
    let since = Instant::now();
    let outcome = json_of("om --n 13 --m 4 --traitors 1,2,3,4 --strategy hash:1");
    assert_eq!(outcome["messages"], 108_384);
    assert_eq!(outcome["IC1"], true);
    assert!(since.elapsed() < slow * Duration::from_secs(10), "{:?}", since.elapsed());
}

#[test]
fn the_tree_is_drawn_for_the_eye_and_as_a_picture() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tree.svg");
    let file = file.to_str().unwrap();
    let output = run(&format!("om --n 4 --m 1 --traitors 3 --strategy flip --svg {file}"));
    let text = stdout(&output);
    for words in [
        "Round 2: every lieutenant passes on what it heard in round 1",
        "3* says: 1 told me 0   LIE: 1 told it 1",
        "vote: 1 direct, 0 by 3*, 1 by 4 => 1",
        "2 decides 1: 2 of 3 values are 1, more than half",
        "IC1 holds",
    ] {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
    let picture = std::fs::read_to_string(file).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("LIE: 1 told it 1"), "{picture}");
    assert_eq!(code(&run("om --n 4 --m 1 --svg /nonexistent/tree.svg")), 1);
}
