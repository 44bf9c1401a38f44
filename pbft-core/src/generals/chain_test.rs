use super::*;
use crate::crypto::Ed25519Signer;
use crate::generals::testing::Keys;

const THREE: General = General(3);

fn chain(keys: &Keys, value: i128, signers: &[u8]) -> Chain<i128> {
    signers.iter().fold(Chain::unsigned(value), |chain, id| {
        chain.signed(&keys.occasion, General(*id), keys.signer(*id))
    })
}

fn check(keys: &Keys, chain: &Chain<i128>, round: u8) -> Result<(), Fault> {
    chain.check_form(&keys.occasion, round, THREE)?;
    chain.check_signatures(&keys.occasion, &keys.verifier)
}

#[test]
fn a_chain_counts_in_the_round_of_its_length_and_in_no_other() {
    let keys = Keys::new(5, 3);
    for (round, signers) in [(1, &[1][..]), (2, &[1, 2]), (3, &[1, 2, 5]), (4, &[1, 4, 2, 5])] {
        assert_eq!(check(&keys, &chain(&keys, 1, signers), round), Ok(()));
    }
    let late = Fault::WrongLength { length: 1, round: 2 };
    assert_eq!(check(&keys, &chain(&keys, 1, &[1]), 2), Err(late), "M3");
    let early = Fault::WrongLength { length: 2, round: 1 };
    assert_eq!(check(&keys, &chain(&keys, 1, &[1, 2]), 1), Err(early), "M3");
    let empty = Fault::WrongLength { length: 0, round: 1 };
    assert_eq!(check(&keys, &Chain::unsigned(1), 1), Err(empty));
}

#[test]
fn m3_a_late_chain_is_refused() {
    let keys = Keys::new(4, 1);
    let late = Fault::WrongLength { length: 1, round: 2 };
    assert_eq!(check(&keys, &chain(&keys, 1, &[1]), 2), Err(late));
}

#[test]
fn m3_a_chain_that_the_commander_did_not_start_is_refused() {
    let keys = Keys::new(4, 1);
    assert_eq!(check(&keys, &chain(&keys, 1, &[2]), 1), Err(Fault::NotTheCommander(2)));
    assert_eq!(check(&keys, &chain(&keys, 1, &[2, 1]), 2), Err(Fault::NotTheCommander(2)));
}

#[test]
fn m3_a_repeated_signer_is_refused() {
    let keys = Keys::new(4, 1);
    assert_eq!(check(&keys, &chain(&keys, 1, &[1, 1]), 2), Err(Fault::RepeatedSigner(1)));
    assert_eq!(check(&keys, &chain(&keys, 1, &[1, 2, 2]), 3), Err(Fault::RepeatedSigner(2)));
}

#[test]
fn m3_a_chain_through_its_receiver_is_refused() {
    let keys = Keys::new(4, 1);
    assert_eq!(check(&keys, &chain(&keys, 1, &[1, 3]), 2), Err(Fault::ThroughReceiver));
}

#[test]
fn m3_a_foreign_key_is_refused() {
    // Six people have keys, and the verifier knows them all; five are generals here.
    let keys = Keys::new(6, 1);
    let occasion = Occasion { setting: crate::generals::testing::setting(5, 1), number: 7 };
    let signed = Chain::unsigned(1_i128).signed(&occasion, General(1), keys.signer(1));
    let foreign = signed.signed(&occasion, General(6), keys.signer(6));
    assert_eq!(foreign.check_signatures(&occasion, &keys.verifier), Ok(()));
    assert_eq!(foreign.check_form(&occasion, 2, THREE), Err(Fault::ForeignKey(6)));
    let nobody = Chain { value: 1_i128, links: [(General(0), Signature([0; 64]))].into() };
    assert_eq!(nobody.check_form(&occasion, 1, THREE), Err(Fault::ForeignKey(0)));
    assert_eq!(nobody.check_signatures(&occasion, &keys.verifier), Err(Fault::Forged(0)));
}

#[test]
fn b6_forged_chains_are_refused() {
    let keys = Keys::new(4, 1);
    let good = chain(&keys, 1, &[1, 2]);
    assert_eq!(check(&keys, &good, 2), Ok(()));

    let other_value = Chain { value: 0, ..good.clone() };
    assert_eq!(check(&keys, &other_value, 2), Err(Fault::Forged(1)));

    let mut other_signer = good.clone();
    other_signer.links[1].0 = General(4);
    assert_eq!(check(&keys, &other_signer, 2), Err(Fault::Forged(4)));

    let mut bit = good.clone();
    bit.links[0].1.0[5] ^= 1;
    assert_eq!(check(&keys, &bit, 2), Err(Fault::Forged(1)));

    // A key that is nobody's, under a general's name.
    let stranger = Ed25519Signer::from_seed(&[99; 32]);
    let strange = chain(&keys, 1, &[1]).signed(&keys.occasion, General(2), &stranger);
    assert_eq!(check(&keys, &strange, 2), Err(Fault::Forged(2)));
}

#[test]
fn b6_a_signature_covers_all_signatures_before_it() {
    let keys = Keys::new(5, 2);
    // 4's signature under (1, 2) is moved under (1, 5): the same value, another way.
    let heard = chain(&keys, 1, &[1, 2, 4]);
    let mut moved = chain(&keys, 1, &[1, 5]);
    moved.links.push(heard.links[2]);
    assert_eq!(check(&keys, &moved, 3), Err(Fault::Forged(4)));
    // And a link cut out of the middle is missed.
    let mut cut = heard;
    cut.links.remove(1);
    assert_eq!(check(&keys, &cut, 2), Err(Fault::Forged(4)));
}

#[test]
fn i5_a_signature_of_another_agreement_does_not_count() {
    let keys = Keys::new(4, 1);
    let order = chain(&keys, 1, &[1]);
    let tomorrow = Occasion { number: 8, ..keys.occasion };
    assert_eq!(order.check_signatures(&tomorrow, &keys.verifier), Err(Fault::Forged(1)));
    let setting = crate::generals::testing::setting(4, 2);
    let longer = Occasion { setting, ..keys.occasion };
    assert_eq!(order.check_signatures(&longer, &keys.verifier), Err(Fault::Forged(1)));
}
