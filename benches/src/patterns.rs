//! Which symbol belongs to what: the one table of the cost split. The first line that matches decides.

/// Every category, in the order in which they are shown.
pub const CATEGORIES: [&str; 15] = [
    "sign",
    "verify",
    "sign or verify",
    "hash",
    "TLS",
    "QUIC",
    "codec",
    "memory",
    "network",
    "disk",
    "scheduling",
    "protocol",
    "execute",
    "kernel, other",
    "rest",
];

/// A part of a symbol's name, and what it means. Of the program and its libraries.
const PROGRAM: &[(&str, &str)] = &[
    // Checking multiplies in variable time, with vector instructions where there are any, and decompresses a
    // point. Signing multiplies the base point from a table of affine points, in constant time. Field arithmetic
    // below both cannot be told apart without call chains.
    ("vartime", "verify"),
    ("curve25519_dalek::backend::vector", "verify"),
    ("decompress", "verify"),
    ("verify_strict", "verify"),
    ("Verifier", "verify"),
    ("non_adjacent_form", "verify"),
    ("AffineNiels", "sign"),
    ("LookupTable", "sign"),
    ("mul_base", "sign"),
    ("ed25519_dalek::signing", "sign"),
    ("curve25519_dalek", "sign or verify"),
    ("ed25519_dalek", "sign or verify"),
    // dalek hashes with SHA-512, everything else with SHA-256.
    ("sha512", "hash"),
    ("sha2::", "hash"),
    ("digest::", "hash"),
    ("ring_core", "TLS"),
    ("ring::", "TLS"),
    ("rustls", "TLS"),
    ("aes_gcm", "TLS"),
    ("aes_hw", "TLS"),
    ("gcm_", "TLS"),
    ("chacha", "TLS"),
    ("bincode", "codec"),
    ("pbft_core::wire", "codec"),
    ("malloc", "memory"),
    ("calloc", "memory"),
    ("realloc", "memory"),
    ("cfree", "memory"),
    ("_int_free", "memory"),
    ("unlink_chunk", "memory"),
    ("__rdl_", "memory"),
    ("memcpy", "memory"),
    ("memmove", "memory"),
    ("memset", "memory"),
    ("memcmp", "memory"),
    ("redb", "disk"),
    ("pbft_app::storage", "disk"),
    ("xxh3", "disk"),
    ("quinn", "QUIC"),
    ("pbft_net", "QUIC"),
    ("tokio", "scheduling"),
    ("mio::", "scheduling"),
    ("parking_lot", "scheduling"),
    ("std::sync", "scheduling"),
    ("pthread", "scheduling"),
    ("epoll", "scheduling"),
    ("clock_gettime", "scheduling"),
    ("pbft_core::state", "execute"),
    ("pbft_core::tree", "execute"),
    ("pbft_core::pages", "execute"),
    ("pbft_app::executor", "execute"),
    ("pbft_benches", "execute"),
    ("pbft_core", "protocol"),
    ("pbft_app", "protocol"),
];

/// The same for the kernel.
const KERNEL: &[(&str, &str)] = &[
    ("ext4", "disk"),
    ("jbd2", "disk"),
    ("virtblk", "disk"),
    ("blk_", "disk"),
    ("bio_", "disk"),
    ("fsync", "disk"),
    ("writeback", "disk"),
    ("filemap", "disk"),
    ("vfs_", "disk"),
    ("submit_", "disk"),
    ("udp", "network"),
    ("ip_", "network"),
    ("ipv4", "network"),
    ("skb", "network"),
    ("sock", "network"),
    ("inet", "network"),
    ("net_", "network"),
    ("netif", "network"),
    ("napi", "network"),
    ("dev_", "network"),
    ("dst_", "network"),
    ("fib_", "network"),
    ("nf_", "network"),
    ("sendmsg", "network"),
    ("recvmsg", "network"),
    ("sendto", "network"),
    ("recvfrom", "network"),
    ("loopback", "network"),
    ("csum", "network"),
    // On loopback these carry what was sent to its receiver.
    ("softirq", "network"),
    ("sched", "scheduling"),
    ("futex", "scheduling"),
    ("epoll", "scheduling"),
    ("ep_", "scheduling"),
    ("wake", "scheduling"),
    ("hrtimer", "scheduling"),
    ("timer", "scheduling"),
    ("pick_", "scheduling"),
    ("enqueue", "scheduling"),
    ("dequeue", "scheduling"),
    ("switch", "scheduling"),
    ("idle", "scheduling"),
    ("page", "memory"),
    ("mmap", "memory"),
    ("kmalloc", "memory"),
    ("kfree", "memory"),
    ("kmem_", "memory"),
    ("slab", "memory"),
    ("clear_", "memory"),
];

/// What the processor was doing in this function.
pub fn classify(is_kernel: bool, object: &str, symbol: &str) -> &'static str {
    let table = if is_kernel { KERNEL } else { PROGRAM };
    let found = table.iter().find(|(part, _)| symbol.contains(part));
    match found {
        Some((_, category)) => category,
        // What the vDSO does is reading the clock.
        None if is_kernel => "kernel, other",
        None if object.contains("vdso") => "scheduling",
        None => "rest",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_has_a_category_that_is_shown() {
        for (part, category) in PROGRAM.iter().chain(KERNEL) {
            assert!(CATEGORIES.contains(category), "{part}");
        }
    }

    #[test]
    fn symbols_of_each_kind_are_told_apart() {
        let mul = "curve25519_dalek::backend::vector::scalar_mul";
        let program = |symbol: &str| classify(false, "cluster", symbol);
        assert_eq!(program(&format!("{mul}::vartime_double_base::spec_avx2::mul")), "verify");
        assert_eq!(program("<ed25519_dalek::signing::SigningKey>::try_sign"), "sign");
        let field = "curve25519_dalek::backend::serial::u64::field::FieldElement51::pow2k";
        assert_eq!(program(field), "sign or verify");
        assert_eq!(program("ring_core_0_17_14__aes_gcm_enc_update_vaes_avx2"), "TLS");
        assert_eq!(program("pbft_core::wire::encode"), "codec");
        assert_eq!(program("pbft_core::replica::order::<impl Replica>::on_vote"), "protocol");
        assert_eq!(classify(false, "[vdso]", "0x0000000000000a41"), "scheduling");
        let kernel = |symbol: &str| classify(true, "[kernel.kallsyms]", symbol);
        assert_eq!(kernel("ext4_sync_file"), "disk");
        assert_eq!(kernel("udp_queue_rcv_one_skb"), "network");
        assert_eq!(kernel("do_syscall_64"), "kernel, other");
    }
}
