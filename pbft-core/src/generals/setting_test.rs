use alloc::string::ToString;

use super::*;

fn total(n: u64, m: u64) -> u128 {
    Setting::new(n, m, General(1)).unwrap().oral_messages().iter().sum()
}

#[test]
fn b3_message_counts_are_those_of_the_lecture() {
    let setting = |n, m| Setting::new(n, m, General(1)).unwrap();
    assert_eq!(setting(4, 1).oral_messages(), [3, 6]);
    assert_eq!(setting(7, 2).oral_messages(), [6, 30, 120]);
    assert_eq!((total(4, 1), total(7, 2), total(10, 3), total(13, 4)), (9, 156, 3_609, 108_384));
    assert_eq!(setting(2, 0).oral_messages(), [1]);
}

#[test]
fn the_shape_is_checked_by_name() {
    let refused = |n, m, commander| Setting::new(n, m, General(commander)).unwrap_err();
    assert_eq!(refused(1, 0, 1), SettingError::Generals(1));
    assert_eq!(refused(100, 1, 1), SettingError::Generals(100));
    assert_eq!(refused(u64::MAX, 1, 1), SettingError::Generals(u64::MAX));
    assert_eq!(refused(4, 3, 1), SettingError::Rounds { m: 3, most: 2 });
    assert_eq!(refused(4, u64::MAX, 1), SettingError::Rounds { m: u64::MAX, most: 2 });
    assert_eq!(refused(4, 1, 5), SettingError::NotAGeneral(5, 4));
    assert_eq!(refused(4, 1, 0), SettingError::NotAGeneral(0, 4));
    assert!(Setting::new(3, 1, General(1)).is_ok_and(|it| !it.is_oral_bound_kept()));
    assert!(Setting::new(4, 1, General(4)).is_ok_and(|it| it.is_oral_bound_kept()));
    assert!(Setting::new(6, 2, General(1)).is_ok_and(|it| !it.is_oral_bound_kept()));
}

#[test]
fn m6_too_many_messages_are_refused_before_the_first() {
    let setting = Setting::new(20, 6, General(1)).unwrap();
    let refused = setting.check_oral_size(1).unwrap_err();
    assert_eq!(
        refused,
        SettingError::TooManyMessages { predicted: 274_985_119, bound: MESSAGES_MAX }
    );
    assert!(refused.to_string().contains("274985119"), "{refused}");
    // Beyond 128 bits the prediction saturates instead of wrapping into something small.
    let setting = Setting::new(99, 97, General(1)).unwrap();
    assert!(matches!(
        setting.check_oral_size(99),
        Err(SettingError::TooManyMessages { predicted: u128::MAX, .. })
    ));
    assert!(Setting::new(13, 4, General(1)).unwrap().check_oral_size(1).is_ok());
    assert!(Setting::new(20, 4, General(1)).unwrap().check_oral_size(1).is_ok());
    assert!(Setting::new(20, 4, General(1)).unwrap().check_oral_size(20).is_err());
}

#[test]
fn lieutenants_are_all_but_the_commander() {
    let setting = Setting::new(4, 1, General(3)).unwrap();
    assert!(setting.lieutenants().eq([1, 2, 4].map(General)));
    assert_eq!(setting.check_lieutenant(General(3)), Err(SettingError::Commands(3)));
    assert_eq!(setting.check_lieutenant(General(9)), Err(SettingError::NotAGeneral(9, 4)));
    assert_eq!(setting.commanded_by(General(1)), Setting::new(4, 1, General(1)));
}
