use super::super::faulty::Faulty;
use super::*;

const TABLE: redb::TableDefinition<'static, u64, u64> = redb::TableDefinition::new("numbers");

fn made() -> Arc<Faulty> {
    let medium = Arc::new(Faulty::new());
    let file = Arc::clone(&medium) as Arc<dyn Medium>;
    StoreFile::create(Path::new("file"), file, |transaction| {
        transaction.open_table(TABLE)?;
        Ok(())
    })
    .unwrap();
    medium
}

fn numbers(bytes: &[u8]) -> [u64; 2] {
    header::NUMBERS.map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()))
}

#[test]
fn the_head_of_the_file_is_where_this_version_of_the_database_keeps_it() {
    let medium = made();
    let file = Arc::clone(&medium) as Arc<dyn Medium>;
    let (mut store, ()) = StoreFile::open(Path::new("file"), file, 1 << 20, |_| Ok(())).unwrap();
    let mut newest = numbers(&medium.bytes()).into_iter().max().unwrap();
    for round in 0..6 {
        store
            .write(|transaction| Ok(transaction.open_table(TABLE)?.insert(round, round)?.is_none()))
            .unwrap();
        let bytes = medium.bytes();
        let current = usize::from(bytes[header::FLAGS] & header::SECOND_IS_CURRENT);
        let numbers = numbers(&bytes);
        assert!(
            numbers[current] > newest && numbers[current] > numbers[1 - current],
            "{numbers:?}"
        );
        newest = numbers[current];
    }
}

#[test]
fn h9_a_panic_while_a_store_is_read_is_a_damaged_store() {
    let opened = StoreFile::open(Path::new("file"), made(), 1 << 20, |_| -> Result<(), _> {
        panic!("as asked")
    });
    assert!(matches!(opened, Err(StorageError::Damaged { .. })), "{opened:?}");
}

#[test]
fn a_full_disk_at_the_start_is_no_damage() {
    let medium = made();
    medium.set_room(Some(0));
    let opened =
        StoreFile::open(Path::new("file"), Arc::clone(&medium) as Arc<dyn Medium>, 1 << 20, |_| {
            Ok(())
        });
    assert!(matches!(opened, Err(StorageError::Full { .. })), "{opened:?}");
    medium.set_room(None);
    StoreFile::open(Path::new("file"), medium, 1 << 20, |_| Ok(())).unwrap();
}
