//! TLS to PostgreSQL: encrypted where asked, and with `verify-full` only to the server that it should be.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arena::raw;
use crate::outages::{Server, run};
use database::{Address, Database, DbError, Settings};

/// A self-signed certificate for a host, and its key. (OpenSSL's program comes with PostgreSQL's package.)
fn certificate(folder: &Path, name: &str, host: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    let output = Command::new("openssl")
        .args(["req", "-new", "-x509", "-days", "2", "-nodes", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:prime256v1", "-subj", "/CN=test", "-addext"])
        .arg(format!("subjectAltName={host}"))
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .args([&key, Path::new("-out"), &certificate])
        .output()
        .expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (certificate, key)
}

async fn is_encrypted(settings: &Settings, query: &str) -> Result<bool, DbError> {
    let Address::Postgres(url) = &settings.address else { panic!("it is PostgreSQL") };
    let address = Address::Postgres(format!("{url}?{query}"));
    let database = Database::open(Settings { address, ..settings.clone() }).await?;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let encrypted = database.in_bulk().read(move |read| read.query_one(sql, &[], |row| row.read(0))).await;
    database.close().await;
    encrypted
}

#[test]
fn a_connection_is_as_safe_as_asked() {
    run(async {
        let server = Server::start();
        let settings = server.settings();
        assert!(!is_encrypted(&settings, "sslmode=prefer").await.unwrap(), "the server has no TLS yet");
        let refused = is_encrypted(&settings, "sslmode=require").await;
        assert!(matches!(refused, Err(DbError::Unavailable(_))), "{refused:?}");

        let data = server.folder.path().join("postgres/data");
        let (right, key) = certificate(server.folder.path(), "right", "IP:127.0.0.1");
        let (wrong, _) = certificate(server.folder.path(), "wrong", "IP:127.0.0.1");
        let owner = fs::metadata(&data).unwrap();
        for (from, to) in [(&right, "server.crt"), (&key, "server.key")] {
            let to = data.join(to);
            fs::copy(from, &to).unwrap();
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
            chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        raw(&server.url, "ALTER SYSTEM SET ssl = on").await;
        raw(&server.url, "SELECT pg_reload_conf()").await;
        while raw(&server.url, "SHOW ssl").await != ["on"] {}

        for (query, encrypted) in [
            ("sslmode=disable".to_owned(), Some(false)),
            ("sslmode=prefer".to_owned(), Some(true)),
            ("sslmode=require".to_owned(), Some(true)),
            (format!("sslmode=verify-full&sslrootcert={}", right.display()), Some(true)),
            (format!("sslmode=verify-full&sslrootcert={}", wrong.display()), None),
            ("sslmode=verify-full".to_owned(), None),
        ] {
            assert_eq!(is_encrypted(&settings, &query).await.ok(), encrypted, "{query}");
        }
    });
}
