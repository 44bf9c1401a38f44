use alloc::format;
use alloc::string::ToString;
use alloc::vec;

use super::*;
use crate::testing::World;
use crate::types::{hex, unhex32};

fn key(text: &str) -> PublicKey {
    PublicKey(unhex32(text).unwrap())
}

fn signature(text: &str) -> Signature {
    let (r, s) = text.split_at(64);
    let bytes = [unhex32(r).unwrap(), unhex32(s).unwrap()].concat();
    Signature(bytes.try_into().unwrap())
}

/// RFC 8032, section 7.1, tests 1 to 3: seed, public key, message, signature.
const RFC_8032: [[&str; 4]; 3] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "r",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "\u{af}\u{82}",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
];

#[test]
fn the_vectors_of_rfc_8032_sign_and_verify() {
    for [seed, public, message, expected] in RFC_8032 {
        // Each character is one byte of the message.
        let message: Vec<u8> =
            message.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        let signer = Ed25519Signer::from_seed(&unhex32(seed).unwrap());
        assert_eq!(signer.public(), key(public));
        assert_eq!(signer.sign(&message), signature(expected));
        assert!(verdict(&key(public), &message, &signature(expected)));
    }
}

/// "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko), the published edge cases: message, key,
/// signature. In order: small A and R; small A; small R; mixed A and R that pass without the cofactor; mixed
/// ones that pass only with it, twice; S above the group order, twice; R in non-canonical form, twice.
const SPECCHECK: [[&str; 3]; 10] = [
    [
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a0000000000000000000000000000000000000000000000000000000000000000",
    ],
    [
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ],
    [
        "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
    ],
    [
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
    ],
    [
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed5125ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
    ],
    [
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
    ],
    [
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
    ],
    [
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa19427e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
    ],
    [
        "fdaebc429f4a735932a160da1301080c13280eea8bc280d1b392c6b9e6ba3a5a",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f454d370c8d9fc323a41450f8d513eafeb5b0697390c1e505a0d4ddc71f566607",
    ],
    [
        "84b698d39be126ff55fe45079e6c8bf64a0d7db6994560b4e96b7021eb39c1a1",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f084d5b99c2a9463d9c8bd5026916996984eeec87ddf1d3be329006ace1b37b09",
    ],
];

#[test]
fn i1_published_edge_cases_get_the_one_strict_verdict() {
    let verdicts = SPECCHECK.map(|[message, public, signed]| {
        verdict(&key(public), &unhex32(message).unwrap(), &signature(signed))
    });
    let expected = [false, false, false, true, false, false, false, false, false, false];
    assert_eq!(verdicts, expected);
}

/// A key and signatures that the plain rule takes, with each of the eight points of small order as R.
#[test]
fn i1_a_signature_whose_r_is_of_small_order_is_refused_whichever_of_the_eight_it_is() {
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
    use curve25519_dalek::scalar::Scalar;
    use ed25519_dalek::Verifier as _;
    use sha2::Sha512;
    let secret = Scalar::from(7_u64);
    let public = ED25519_BASEPOINT_POINT * secret + EIGHT_TORSION[1];
    let public = VerifyingKey::from_bytes(&public.compress().to_bytes()).unwrap();
    for point in EIGHT_TORSION {
        let r = point.compress().to_bytes();
        assert!(SMALL_ORDER.contains(&r));
        let forged = (0_u32..1000).find_map(|attempt| {
            let message = attempt.to_le_bytes();
            let hash = Sha512::new().chain_update(r).chain_update(public).chain_update(message);
            let challenge = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
            let s = (challenge * secret).to_bytes();
            let bytes: [u8; 64] = [r, s].concat().try_into().unwrap();
            let plain = public.verify(&message, &ed25519_dalek::Signature::from_bytes(&bytes));
            plain.is_ok().then_some((message, Signature(bytes)))
        });
        let (message, signature) = forged.unwrap();
        let dalek = ed25519_dalek::Signature::from_bytes(&signature.0);
        assert!(public.verify_strict(&message, &dalek).is_err());
        assert!(!verdict(&PublicKey(public.to_bytes()), &message, &signature));
    }
}

/// Keys and Rs with every torsion component, encodings of small order that are not canonical, S as it must be and one
/// order above: the verdict is dalek's strict one, whatever the equation says.
#[test]
fn i1_the_verdict_is_the_strict_one_for_signatures_that_only_a_malicious_signer_makes() {
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
    use curve25519_dalek::scalar::Scalar;
    use sha2::Sha512;
    const ORDER: [u8; 16] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14,
    ];
    let plus_order = |scalar: [u8; 32]| {
        let mut order = [0; 32];
        order[..16].copy_from_slice(&ORDER);
        order[31] = 0x10;
        let mut carry = 0;
        let mut sum = [0; 32];
        for ((sum, one), other) in sum.iter_mut().zip(scalar).zip(order) {
            let total = u16::from(one) + u16::from(other) + carry;
            (*sum, carry) = (total.to_le_bytes()[0], total >> 8);
        }
        sum
    };
    // y = p and p + 1, which are 0 and 1, and a zero x with its sign set.
    let mut spellings: Vec<[u8; 32]> = Vec::new();
    for low in [0xed, 0xee] {
        let mut y = [0xff; 32];
        y[0] = low;
        spellings.push(y);
        y[31] = 0x7f;
        spellings.push(y);
    }
    for y in [1_u8, 0xec] {
        let mut bytes = if y == 1 { [0; 32] } else { [0xff; 32] };
        (bytes[0], bytes[31]) = (y, if y == 1 { 0x80 } else { 0xff });
        spellings.push(bytes);
    }
    let (secret, nonce) = (Scalar::from(7_u64), Scalar::from(11_u64));
    let mut judged = Vec::new();
    for torsion in EIGHT_TORSION {
        let key = (ED25519_BASEPOINT_POINT * secret + torsion).compress().to_bytes();
        let key = parse_key(&PublicKey(key)).unwrap();
        let points = EIGHT_TORSION.into_iter();
        let large = points.clone().map(|it| (ED25519_BASEPOINT_POINT * nonce + it, nonce));
        let small = points.map(|it| (it, Scalar::ZERO));
        let rs = large.chain(small).map(|(point, nonce)| (point.compress().to_bytes(), nonce));
        let rs = rs.chain(spellings.iter().map(|bytes| (*bytes, Scalar::ZERO)));
        for (r, nonce) in rs {
            for message in (0_u8..2).map(|byte| [byte]) {
                let hash = Sha512::new().chain_update(r).chain_update(key).chain_update(message);
                let challenge = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
                let s = (nonce + challenge * secret).to_bytes();
                for s in [s, plus_order(s)] {
                    let bytes: [u8; 64] = [r, s].concat().try_into().unwrap();
                    let dalek = ed25519_dalek::Signature::from_bytes(&bytes);
                    let strict = key.verify_strict(&message, &dalek).is_ok();
                    let claim = (Some(&key), &message[..], &Signature(bytes));
                    assert_eq!(verify_strict([claim].into_iter()), [strict]);
                    judged.push((key, message, Signature(bytes), strict));
                }
            }
        }
    }
    let good = judged.iter().filter(|(.., strict)| *strict).count();
    assert!(good > 5 && judged.len() - good > 500, "{good} of {}", judged.len());
    // The same in any company: together with good ones, bad ones, and some without a key.
    for size in [2, 3, 7, 32, judged.len()] {
        for group in judged.chunks(size) {
            let strangers = [None, Some(true)].into_iter().cycle();
            let members = group.iter().zip(strangers);
            let claims = members.clone().map(|((key, message, signature, _), listed)| {
                (listed.map(|_| key), &message[..], signature)
            });
            let expected: Vec<bool> =
                members.map(|((.., strict), listed)| *strict && listed.is_some()).collect();
            assert_eq!(verify_strict(claims), expected);
            let claims = group
                .iter()
                .map(|(key, message, signature, _)| (Some(key), &message[..], signature));
            let expected: Vec<bool> = group.iter().map(|(.., strict)| *strict).collect();
            assert_eq!(verify_strict(claims), expected);
        }
    }
}

#[test]
fn i1_verdicts_of_a_group_are_those_of_each_alone_whatever_bit_is_flipped() {
    let world = World::new(4);
    let signed: Vec<(Vec<u8>, Signature)> = (0..8_u8)
        .map(|index| {
            let preimage = vec![index; 100];
            let signature = crate::testing::replica_key(u32::from(index % 4)).sign(&preimage);
            (preimage, signature)
        })
        .collect();
    let claims = |signed: &[(Vec<u8>, Signature)]| {
        let claims = (0..).zip(signed).map(|(index, (preimage, signature))| Claim {
            author: Author::Replica(ReplicaId(index % 4)),
            preimage,
            signature,
        });
        world.verifier.verify_each(&claims.collect::<Vec<_>>())
    };
    assert_eq!(claims(&signed), [true; 8]);
    for bit in 0..512 {
        let (at, mut flipped) = (bit % 8, signed.clone());
        flipped[at].1.0[bit / 8] ^= 1 << (bit % 8);
        let mut expected = [true; 8];
        expected[at] = false;
        assert_eq!(claims(&flipped), expected, "bit {bit}");
    }
    let stranger = Author::Replica(ReplicaId(4));
    let claim = Claim { author: stranger, preimage: &signed[0].0, signature: &signed[0].1 };
    assert_eq!(world.verifier.verify_each(&[claim, claim]), [false, false]);
    assert!(world.verifier.verify_each(&[]).is_empty());
}

#[test]
fn i3_small_order_and_non_canonical_keys_are_refused_at_configuration() {
    let weak = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    ];
    for text in weak {
        assert_eq!(check_key(&key(text)), Err(KeyFault::Weak), "{text}");
    }
    // y = p + 3 and above: another spelling of a small y.
    for low in 0xee..=0xff {
        let text = format!("{}{}7f", hex(&[low]), "ff".repeat(30));
        assert!(check_key(&key(&text)).is_err(), "{text}");
    }
}

#[test]
fn a_weak_key_in_a_cluster_is_refused_with_its_place() {
    use crate::cluster::{Cluster, ClusterConfig};
    let world = World::new(4);
    let mut members = world.cluster.members().to_vec();
    members[2] = key("0100000000000000000000000000000000000000000000000000000000000000");
    let cluster = Cluster::new(ClusterConfig {
        name: "weak".to_string(),
        members,
        clients: Vec::new(),
        constants: world.cluster.constants().clone(),
        development: false,
    });
    let error = Ed25519Verifier::new(&cluster.unwrap()).unwrap_err();
    assert_eq!(error.field, "signing_key of replica 2");
    assert!(error.remedy.contains("weak"));
}

#[test]
fn i4_a_malleable_copy_is_refused() {
    let [_, public, _, good] = RFC_8032[0];
    // S + L: the same point equation, another spelling of the scalar.
    let order =
        unhex32("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let mut copy = signature(good);
    let mut carry = 0_u16;
    for (byte, add) in copy.0[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + u16::from(add);
        *byte = u8::try_from(carry & 0xff).unwrap();
        carry >>= 8;
    }
    assert!(verdict(&key(public), b"", &signature(good)));
    assert!(!verdict(&key(public), b"", &copy));
}

#[test]
fn a_signer_is_deterministic_and_shows_no_secret() {
    let signer = Ed25519Signer::from_seed(&[0x42; 32]);
    assert_eq!(signer.sign(b"x"), signer.sign(b"x"));
    assert!(!format!("{signer:?}").contains("4242"));
}

#[test]
fn fields_cannot_be_shifted_between_hashes() {
    let digest = |fields: &[&[u8]]| {
        let mut hasher = Hasher::new("test");
        fields.iter().for_each(|field| hasher.field(field));
        hasher.finish()
    };
    assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    assert_ne!(digest(&[b"ab"]), digest(&[b"ab", b""]));
    assert_ne!(Hasher::new("one").finish(), Hasher::new("two").finish());
}
