use super::*;
use crate::directory::{Plan, init};

fn made() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cluster");
    let plan = Plan {
        name: "test".to_owned(),
        replicas: 4,
        clients: 1,
        users: 2,
        base_port: 7000,
        development: false,
    };
    init(&path, &plan).unwrap();
    (directory, path)
}

#[test]
fn what_init_makes_opens_and_fits_together() {
    let (_keep, path) = made();
    let deployment = Deployment::load(&path.join("cluster.toml")).unwrap();
    let gateway = GatewayDirectory::open(&path.join("gateway")).unwrap();
    assert_eq!(gateway.address().port(), 7008);
    assert!(matches!(
        GatewayDirectory::open(&path.join("gateway")),
        Err(ConfigurationError::Locked { .. })
    ));
    let gateway = gateway.into_config().unwrap();
    assert_eq!(gateway.client.keys.public(), deployment.clients()[1]);
    assert_eq!(gateway.limits, GatewayLimits::default());
    for index in 0..2 {
        let path = path.join(format!("user-{index}"));
        assert!(UserDirectory::is_at(&path));
        let user = UserDirectory::open(&path).unwrap().into_config();
        assert_eq!(gateway.users[index], UserEntry { id: user.id, tls_key: user.key.public() });
        assert_eq!(user.gateway.tls_key, gateway.client.keys.public().tls);
        assert_eq!(user.cluster, deployment.cluster().id());
    }
    assert!(!UserDirectory::is_at(&path.join("client-0")));
}

#[test]
fn what_is_wrong_is_refused_with_file_field_value_and_remedy() {
    let (_keep, path) = made();
    let users = path.join("gateway").join(USERS_FILE);
    let text = fs::read_to_string(&users).unwrap();
    let key = text.lines().find_map(|line| line.strip_prefix("tls_key = ")).unwrap();
    for (old, new, says) in [
        ("timeout_max = \"60s\"", "timeout_max = \"1\"", "timeout_max = 1: write a whole number"),
        ("operations_max = 16384", "operations_max = 0", "operations_max = 0: take a value from 1"),
        (key, "\"ff\"", "tls_key = ff: take the 64 hexadecimal digits"),
        ("id = 0", "name = 0", "unknown field"),
    ] {
        assert!(text.contains(old), "{old}");
        fs::write(&users, text.replace(old, new)).unwrap();
        let error = GatewayDirectory::open(&path.join("gateway")).unwrap_err().to_string();
        assert!(error.contains("users.toml") && error.contains(says), "{error}");
    }
    let error = GatewayDirectory::open(&path.join("client-0")).unwrap_err().to_string();
    assert!(error.contains("users.toml is missing"), "{error}");
    let user = path.join("user-1").join(USER_FILE);
    let text = fs::read_to_string(&user).unwrap().replace("cluster_id = \"", "cluster_id = \"g");
    fs::write(&user, text).unwrap();
    let error = UserDirectory::open(&path.join("user-1")).unwrap_err().to_string();
    assert!(error.contains("take the cluster_id of cluster.toml"), "{error}");
}
