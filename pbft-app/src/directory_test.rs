use super::*;
use crate::header::STORE_FILE;

fn made() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cluster");
    let plan = Plan {
        name: "test".to_owned(),
        replicas: 4,
        clients: 1,
        users: 0,
        base_port: 7000,
        development: false,
    };
    init(&path, &plan).unwrap();
    (directory, path)
}

#[test]
fn g10_only_the_first_start_of_a_directory_is_fresh() {
    let (_keep, path) = made();
    let open = || ReplicaDirectory::open(&path.join("replica-2"));
    let first = open().unwrap();
    assert_eq!(first.id(), ReplicaId(2));
    let mut store = first.memory_store().unwrap();
    assert_eq!(store.history(), History::Fresh);
    // A start that is refused leaves the replica fresh; only one that is noted does not.
    assert_eq!(first.memory_store().unwrap().history(), History::Fresh);
    store.note_start().unwrap();
    assert!(matches!(open(), Err(ConfigurationError::Locked { .. })), "held for life");
    drop(first);
    assert_eq!(open().unwrap().memory_store().unwrap().history(), History::Lost);
}

#[test]
fn a_directory_of_an_earlier_version_is_refused_by_name() {
    let (_keep, path) = made();
    let file = path.join("replica-0").join(STORE_FILE);
    let text = fs::read_to_string(&file).unwrap();
    for (line, field) in [("started = true", "started"), ("", "runs")] {
        fs::write(&file, text.replace("runs = 0", line)).unwrap();
        match ReplicaDirectory::open(&path.join("replica-0")) {
            Err(ConfigurationError::ValueIn { error, .. }) => {
                assert_eq!(error.field, field);
                assert!(error.remedy.contains("make a new cluster"));
            }
            opened => panic!("{opened:?}"),
        }
    }
}

#[test]
fn h10_a_store_of_another_replica_or_cluster_is_refused() {
    let (_keep, path) = made();
    let (_other_keep, other) = made();
    let store = |root: &Path, id| root.join(format!("replica-{id}")).join(STORE_FILE);
    for (from, field) in [(store(&path, 1), "replica"), (store(&other, 0), "cluster_id")] {
        fs::copy(from, store(&path, 0)).unwrap();
        match ReplicaDirectory::open(&path.join("replica-0")) {
            Err(ConfigurationError::ValueIn { error, .. }) => assert_eq!(error.field, field),
            opened => panic!("{opened:?}"),
        }
    }
    fs::remove_file(store(&path, 0)).unwrap();
    assert!(ReplicaDirectory::open(&path.join("replica-0")).is_err(), "opened, never created");
}

#[test]
fn request_numbers_never_repeat_across_processes_even_if_the_clock_goes_back() {
    let (_keep, path) = made();
    let client = path.join("client-0");
    let future = unix_micros() + 1_000_000_000_000;
    fs::write(client.join(NUMBER_FILE), format!("{future}\n")).unwrap();
    let mut directory = ClientDirectory::open(&client).unwrap();
    assert!(matches!(ClientDirectory::open(&client), Err(ConfigurationError::Locked { .. })));
    let mut numbers = directory.take_numbers().unwrap();
    assert_eq!(numbers.first(), RequestNumber(future + 256));
    // The last number used is at most W above the number saved.
    let last = RequestNumber(numbers.first().0 + 10_000);
    numbers.reserve(last).unwrap();
    drop((numbers, directory));
    let next = ClientDirectory::open(&client).unwrap().take_numbers().unwrap();
    assert!(next.first() > last);
}

#[test]
fn a_damaged_number_file_is_refused_with_the_remedy() {
    let (_keep, path) = made();
    let client = path.join("client-0");
    fs::write(client.join(NUMBER_FILE), "many").unwrap();
    let error = ClientDirectory::open(&client).unwrap_err().to_string();
    assert!(error.contains("number = many") && error.contains("remove the file"), "{error}");
}
