use super::*;

#[test]
fn the_defaults_are_valid_and_their_memory_bound_is_finite() {
    NetLimits::default().check().unwrap();
    assert!(NetLimits::default().memory_bytes_max(4) < 1 << 35);
}

#[test]
fn a_broken_relation_is_named() {
    let mut limits = NetLimits::default();
    limits.keep_alive = limits.idle_timeout;
    let error = limits.check().unwrap_err().to_string();
    assert!(error.contains("keep_alive must be at most half of idle_timeout"), "{error}");
    let mut limits = NetLimits::default();
    limits.peer_bulk.inbound_bytes_max = 1000;
    let error = limits.check().unwrap_err().to_string();
    assert!(error.contains("inbound_bytes_max"), "{error}");
}
