//! TLS to PostgreSQL, by the words that libpq uses: `sslmode` and `sslrootcert` in the address.
//!
//! | `sslmode` | encrypted | server's identity checked |
//! |---|---|---|
//! | `disable` | no | no |
//! | `prefer` (default) | where the server can | no |
//! | `require` | yes | no, as libpq does without a root certificate |
//! | `verify-full` | yes | yes: against `sslrootcert`, or the system's roots |

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::DbError;

/// What an address asks for.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) mode: SslMode,
    pub(super) connector: MakeRustlsConnect,
}

/// Takes `sslmode` and `sslrootcert` out of the address; the rest is tokio-postgres's to read.
pub(super) fn split(url: &str) -> Result<(String, Tls), DbError> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut mode = None;
    let mut roots = None;
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", value)) => mode = Some(value.to_owned()),
            Some(("sslrootcert", value)) => roots = Some(value.replace("%2F", "/").replace("%2f", "/")),
            _ => rest.push(pair),
        }
    }
    let (mode, verify) = match mode.as_deref() {
        None | Some("prefer") => (SslMode::Prefer, false),
        Some("disable") => (SslMode::Disable, false),
        Some("require") => (SslMode::Require, roots.is_some()),
        Some("verify-full") => (SslMode::Require, true),
        Some(other) => {
            return Err(DbError::Refused(format!(
                "database_url: sslmode `{other}` is not one of disable, prefer, require, verify-full"
            )));
        }
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need");
    let config = if verify {
        builder.with_root_certificates(root_store(roots.as_deref())?).with_no_client_auth()
    } else {
        let verifier = Arc::new(AnyIdentity(provider));
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    };
    let joined = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok((joined, Tls { mode, connector: MakeRustlsConnect::new(config) }))
}

fn root_store(file: Option<&str>) -> Result<RootCertStore, DbError> {
    let mut store = RootCertStore::empty();
    let found = match file {
        None | Some("system") => rustls_native_certs::load_native_certs().certs,
        Some(path) => {
            let wrong = |error: rustls::pki_types::pem::Error| {
                DbError::Refused(format!("database_url: sslrootcert {path}: {error}"))
            };
            CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)?
        }
    };
    store.add_parsable_certificates(found);
    if store.is_empty() {
        let whence = file.unwrap_or("the system's store");
        return Err(DbError::Refused(format!("database_url: no root certificate in {whence}")));
    }
    Ok(store)
}

/// Encrypts without asking who is there, which is what `require` has always meant. The handshake's
/// signatures are checked all the same.
#[derive(Debug)]
struct AnyIdentity(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyIdentity {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::split;
    use tokio_postgres::config::SslMode;

    #[test]
    fn modes() {
        for (url, rest, mode) in [
            ("postgres://u@h/d", "postgres://u@h/d", SslMode::Prefer),
            ("postgres://u@h/d?sslmode=disable", "postgres://u@h/d", SslMode::Disable),
            (
                "postgres://u@h/d?a=b&sslmode=require&connect_timeout=3",
                "postgres://u@h/d?a=b&connect_timeout=3",
                SslMode::Require,
            ),
        ] {
            let (left, tls) = split(url).ok().unwrap();
            assert_eq!((left.as_str(), tls.mode), (rest, mode), "{url}");
        }
        assert!(split("postgres://u@h/d?sslmode=verify-ca").is_err());
        assert!(split("postgres://u@h/d?sslmode=verify-full&sslrootcert=/nowhere.pem").is_err());
    }
}
