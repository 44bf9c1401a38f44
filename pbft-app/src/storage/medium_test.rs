use super::super::faulty::Faulty;
use super::*;

#[test]
fn an_overlay_shows_what_was_written_and_leaves_the_file_alone() {
    let bytes: Vec<u8> = (0..20_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let below = Arc::new(Faulty::with(&bytes));
    let overlay = Overlay::new(Arc::clone(&below) as Arc<dyn Medium>).unwrap();
    let mut model = bytes.clone();
    let mut random = 77_u64;
    let mut next = |bound: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from((random >> 33) % bound as u64).unwrap()
    };
    for round in 0..2000 {
        match next(10) {
            0 => {
                let length = next(30_000);
                model.resize(length, 0);
                overlay.set_len(length as u64).unwrap();
            }
            1..5 => {
                let (at, length) = (next(25_000), next(9000));
                let written = vec![u8::try_from(round % 256).unwrap(); length];
                if length > 0 {
                    model.resize(model.len().max(at + length), 0);
                    model[at..at + length].copy_from_slice(&written);
                }
                overlay.write(at as u64, &written).unwrap();
            }
            _ => {
                let (at, length) = (next(25_000), next(9000));
                let mut read = vec![0; length];
                match overlay.read(at as u64, &mut read) {
                    Ok(()) => assert_eq!(read, model[at..at + length], "round {round}"),
                    Err(_) => assert!(at + length > model.len(), "round {round}"),
                }
            }
        }
        assert_eq!(overlay.len().unwrap(), model.len() as u64, "round {round}");
    }
    assert_eq!(below.bytes(), bytes);
    assert_eq!(below.steps(), 0);
}
