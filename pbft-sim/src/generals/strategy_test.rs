#![allow(clippy::unwrap_used)]

use super::*;

fn path(ids: &[u8]) -> Path {
    Path::new(ids.iter().copied().map(General)).unwrap()
}

fn say(name: &str, ids: &[u8], receiver: u8, honest: i128) -> Option<i128> {
    name.parse::<Named>().unwrap().say(&path(ids), General(receiver), &honest)
}

#[test]
fn named_strategies_say_what_the_lecture_says() {
    assert_eq!(say("silent", &[1], 2, 1), None);
    assert_eq!((say("flip", &[1], 2, 1), say("flip", &[1], 2, 5)), (Some(0), Some(-4)));
    assert_eq!((say("split", &[1], 2, 1), say("split", &[1], 3, 1)), (Some(0), Some(1)));
    assert_eq!((say("parity", &[1, 3], 2, 1), say("parity", &[1, 3], 5, 1)), (Some(0), Some(1)));
    assert_eq!((say("pair", &[1, 3], 2, 1), say("pair", &[1, 2], 3, 1)), (Some(222), Some(111)));
    assert_eq!(say("garbage", &[1, 3], 2, 1), Some(9_010_302));
    assert_eq!(say("garbage", &[12, 3], 99, 1), Some(9_120_399));
}

#[test]
fn hashes_are_those_of_any_sha256sum() {
    // printf '7:1.2>3' | sha256sum, and so on: the parity of the second hexadecimal digit.
    let bit = |seed: &str, ids: &[u8], receiver| say(&format!("hash:{seed}"), ids, receiver, 0);
    assert_eq!(bit("7", &[1, 2], 3), Some(1));
    assert_eq!(bit("7", &[1], 2), Some(0));
    assert_eq!(bit("a:b", &[1, 12], 3), Some(0));
}

#[test]
fn flipping_twice_is_the_truth_even_at_the_edge() {
    for honest in [i128::MIN, -1, 0, 1, i128::MAX] {
        let once = say("flip", &[1], 2, honest).unwrap();
        assert_eq!(say("flip", &[1], 2, once), Some(honest));
    }
}

#[test]
fn names_are_read_and_shown_alike() {
    for name in ["silent", "flip", "split", "parity", "pair", "garbage", "hash:", "hash:x:y"] {
        assert_eq!(name.parse::<Named>().unwrap().to_string(), name);
    }
    let error = "lie".parse::<Named>().unwrap_err();
    assert!(error.to_string().contains("garbage"), "{error}");
}

#[test]
fn tables_speak_where_they_have_an_entry() {
    let key = |text| parse_key(text).unwrap();
    let table = Table([(key("1>3"), Some(0)), (key("1>2>3"), None)].into());
    assert_eq!(table.say(&path(&[1]), General(3), &1), Some(0));
    assert_eq!(table.say(&path(&[1, 2]), General(3), &1), None);
    assert_eq!(table.say(&path(&[1]), General(2), &1), Some(1));
    let entries: Vec<_> = table.entries().map(|(key, value)| (key, *value)).collect();
    assert_eq!(entries, [("1>3".to_owned(), Some(0)), ("1>2>3".to_owned(), None)]);
}

#[test]
fn keys_that_are_none_are_refused() {
    let refused = |text: &str| parse_key(text).unwrap_err();
    assert_eq!(refused("1>x"), KeyError::Number("1>x".to_owned()));
    assert_eq!(refused(""), KeyError::Number(String::new()));
    assert_eq!(refused("300>1"), KeyError::Number("300>1".to_owned()));
    assert_eq!(refused("1"), KeyError::NoSender("1".to_owned()));
    assert_eq!(refused("1>2>1"), KeyError::Receiver("1>2>1".to_owned()));
    let twice = KeyError::Path("1>1>2".to_owned(), PathError::Repeated(General(1)));
    assert_eq!(refused("1>1>2"), twice);
    let nobody = KeyError::Path("1>0".to_owned(), PathError::NotAGeneral(0));
    assert_eq!(refused("1>0"), nobody);
}
