//! The one way out to addresses that users name: which of them may be reached, asked when an address is saved and again when it
//! is connected to. The addresses that are checked are the addresses that are dialled, so a name cannot change its mind in
//! between; redirects are not followed, and no proxy of the environment is used.
//!
//! What is sent there, and what is made of the answer, is told by `ask`.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use carriers::http::{Timeouts, client_builder};
use domain::destination::Destinations;
use domain::endpoint::{Address, Plain};
use domain::error::{Code, Refusal, shown};
use domain::number::{Country, E164};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Host;

use crate::config::{self, AllowedAddress};

/// How long connecting to a user's server may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How long one request to a user's server may take, its answer included.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(3);
/// How long a name may take to be resolved when an address is saved.
const RESOLVE_LIMIT: Duration = Duration::from_secs(2);
/// The most addresses of one name that are looked at.
const ADDRESSES_MAX: usize = 32;

/// The way out.
pub struct Egress {
    policy: Policy,
    client: reqwest::Client,
    /// A client for each port that an exactly allowed address has: only on that port is that address reached.
    by_port: HashMap<u16, reqwest::Client>,
    /// Where calls may be sent on to over the telephone network.
    destinations: Destinations,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Egress({:?})", self.policy)
    }
}

/// What may be reached.
#[derive(Clone, Debug)]
pub struct Policy {
    allowed_addresses: Vec<AllowedAddress>,
    allowed_ports: Vec<u16>,
    plain: Plain,
}

impl Egress {
    /// The way out that the settings describe.
    pub fn new(settings: &config::Egress) -> anyhow::Result<Egress> {
        let policy = Policy::new(settings);
        let client = |port: Option<u16>| {
            let timeouts = Timeouts { connect: CONNECT_LIMIT, total: REQUEST_LIMIT };
            let guarded = Guarded { policy: policy.clone(), port };
            // The size of an answer is limited in bytes on the wire: nothing is unpacked.
            client_builder(timeouts).no_gzip().dns_resolver(Arc::new(guarded)).build()
        };
        let mut by_port = HashMap::new();
        for port in policy.allowed_addresses.iter().filter_map(|allowed| allowed.port) {
            by_port.insert(port, client(Some(port))?);
        }
        let destinations =
            Destinations { listed: settings.allowed_phone_countries.clone(), sold: BTreeSet::new() };
        Ok(Egress { client: client(None)?, by_port, policy, destinations })
    }

    /// The same, where the store sells numbers of these countries.
    #[must_use]
    pub fn selling(mut self, countries: impl IntoIterator<Item = Country>) -> Egress {
        self.destinations.sold.extend(countries);
        self
    }

    /// Checks a number that calls would be sent on to; `home` is the workspace's own country.
    pub fn destination_check(&self, number: E164, home: Option<Country>) -> Result<(), Refusal> {
        self.destinations.check(number, home)
    }

    /// Whether unencrypted addresses are accepted.
    pub const fn plain(&self) -> Plain {
        self.policy.plain
    }

    /// Checks an address that is to be saved: its port, and everything that its name stands for now. A name that cannot be
    /// resolved now passes: it is asked again when it is connected to.
    pub async fn address_check(&self, address: &Address) -> Result<(), Refusal> {
        self.policy.check(address)?;
        let Host::Domain(name) = &address.host else { return Ok(()) };
        let lookup = tokio::net::lookup_host((name.as_str(), address.port));
        let Ok(Ok(found)) = tokio::time::timeout(RESOLVE_LIMIT, lookup).await else { return Ok(()) };
        let found: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
        match found.iter().find(|found| !self.policy.allows_address(found.ip(), Some(address.port))) {
            // The address itself is not told: what names mean inside is nobody's business outside.
            Some(_) => Err(refuse(name)),
            None => Ok(()),
        }
    }

    /// Whether an address can be found now. What takes too long to look up is taken to be there.
    pub async fn resolves(&self, address: &Address) -> bool {
        let Host::Domain(name) = &address.host else { return true };
        let lookup = tokio::net::lookup_host((name.as_str(), address.port));
        match tokio::time::timeout(RESOLVE_LIMIT, lookup).await {
            Ok(Ok(mut found)) => found.next().is_some(),
            Ok(Err(_)) => false,
            Err(_) => true,
        }
    }

    /// The client for an address that passes what can be checked before its name is resolved; the rest is checked when it
    /// connects.
    pub(super) fn client_for(&self, address: &Address) -> Result<&reqwest::Client, Refusal> {
        self.policy.check(address)?;
        Ok(self.by_port.get(&address.port).unwrap_or(&self.client))
    }
}

fn refuse(host: &str) -> Refusal {
    Refusal::new(
        Code::AddressNotAllowed,
        format!(
            "{} is, or leads to, an address that is not public; use a public one, or ask the operator to add it to egress.allowed_addresses",
            shown(host)
        ),
    )
}

impl Policy {
    /// The policy that the settings describe.
    pub fn new(settings: &config::Egress) -> Policy {
        Policy {
            allowed_addresses: settings.allowed_addresses.clone(),
            allowed_ports: settings.allowed_ports.clone(),
            plain: settings.plain(),
        }
    }

    /// Checks what an address says of itself, without resolving names.
    pub fn check(&self, address: &Address) -> Result<(), Refusal> {
        let ip = match &address.host {
            Host::Ipv4(ip) => Some(IpAddr::V4(*ip)),
            Host::Ipv6(ip) => Some(IpAddr::V6(*ip)),
            // RFC 6761 §6.3: loopback, whatever a resolver says.
            Host::Domain(name) if is_localhost(name) => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Host::Domain(_) => None,
        };
        if !self.allows_port(ip, address.port) {
            return Err(Refusal::new(
                Code::UrlPort,
                format!(
                    "the port {} is not allowed; use 80, 443 or one from 1024 up, or ask the operator to add it to egress.allowed_ports",
                    address.port
                ),
            ));
        }
        match (ip, &address.host) {
            (Some(ip), _) if !self.allows_address(ip, Some(address.port)) => Err(refuse(&ip.to_string())),
            (None, Host::Domain(name)) if name.is_empty() || name.len() > 253 => Err(refuse(name)),
            _ => Ok(()),
        }
    }

    /// Whether a port may be reached; one that is named for an address, only there. Names are for ports that are allowed anywhere.
    fn allows_port(&self, ip: Option<IpAddr>, port: u16) -> bool {
        matches!(port, 80 | 443 | 1024..)
            || self.allowed_ports.contains(&port)
            || ip.is_some_and(|ip| {
                self.allowed_addresses
                    .iter()
                    .any(|allowed| allowed.port == Some(port) && allowed.network.contains(ip))
            })
    }

    /// Whether an address may be reached on a port; `None` is any other than those that are named for one address.
    fn allows_address(&self, ip: IpAddr, port: Option<u16>) -> bool {
        is_public(ip)
            || self.allowed_addresses.iter().any(|allowed| {
                allowed.network.contains(ip)
                    && allowed.port.is_none_or(|only| Some(only) == port)
                    // Allowing a private network does not allow the cloud's own interface in it.
                    && (allowed.port.is_some() || !is_metadata(ip))
            })
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Whether an address belongs to the public Internet. What carries an IPv4 address inside counts as that address.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// <https://www.iana.org/assignments/iana-ipv4-special-registry/>
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = a == 0
        || a >= 224
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && matches!(c, 0 | 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && matches!(b, 18 | 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113);
    !special
}

/// Only global unicast, 2000::/3, is public, and not all of it.
/// <https://www.iana.org/assignments/iana-ipv6-special-registry/>
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    let carried = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // NAT64: the rest is an IPv4 address.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => carried(high, low),
        // 6to4 and Teredo lead wherever they say; then documentation and benchmarking.
        [0x2002 | 0x3fff, ..] | [0x2001, 0 | 0x0db8, ..] | [0x2001, 0x0002, 0, ..] => false,
        // ORCHID.
        [0x2001, second, ..] if (0x10..0x40).contains(&second) => false,
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

/// The interfaces of clouds to their machines, which hand out credentials.
fn is_metadata(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_link_local() || matches!(ip.octets(), [100, 100, 100, 200] | [192, 0, 0, 192])
        }
        IpAddr::V6(ip) => {
            ip.is_unicast_link_local() || ip == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
        }
    }
}

/// Resolves names, and refuses those of which any address is not allowed.
struct Guarded {
    policy: Policy,
    port: Option<u16>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, port) = (self.policy.clone(), self.port);
        Box::pin(async move {
            // Port 0 stands for the one of the URL.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
            if found.iter().any(|found| !policy.allows_address(found.ip(), port)) {
                return Err(refuse(name.as_str()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::endpoint::{SipUri, WebhookUrl};

    fn policy(settings: &str) -> Policy {
        Policy::new(&toml::from_str::<config::Egress>(settings).unwrap())
    }

    /// What an address in a URL is refused for; the form, or where it leads.
    fn refused(policy: &Policy, url: &str) -> Option<Code> {
        match WebhookUrl::parse(url, policy.plain) {
            Err(refusal) => Some(refusal.code),
            Ok(url) => policy.check(&url.address()).err().map(|refusal| refusal.code),
        }
    }

    #[test]
    fn private_addresses_are_refused_however_they_are_written() {
        let policy = policy("");
        for (url, code) in [
            ("https://127.0.0.1/", Code::AddressNotAllowed),
            ("https://127.1/", Code::AddressNotAllowed),
            ("https://0x7f.1/", Code::AddressNotAllowed),
            ("https://0x7f000001/", Code::AddressNotAllowed),
            ("https://2130706433/", Code::AddressNotAllowed),
            ("https://0177.0.0.1/", Code::AddressNotAllowed),
            ("https://017700000001/", Code::AddressNotAllowed),
            ("https://127.0.0.1./", Code::AddressNotAllowed),
            ("https://%31%32%37.0.0.1/", Code::AddressNotAllowed),
            ("https://0/", Code::AddressNotAllowed),
            ("https://0.0.0.0/", Code::AddressNotAllowed),
            ("https://10.0.0.1/", Code::AddressNotAllowed),
            ("https://10.255.255.255:8443/", Code::AddressNotAllowed),
            ("https://172.16.0.1/", Code::AddressNotAllowed),
            ("https://172.31.255.254/", Code::AddressNotAllowed),
            ("https://192.168.1.1/", Code::AddressNotAllowed),
            ("https://169.254.169.254/latest/meta-data/", Code::AddressNotAllowed),
            ("https://169.254.170.2/", Code::AddressNotAllowed),
            ("https://100.64.0.1/", Code::AddressNotAllowed),
            ("https://100.100.100.200/", Code::AddressNotAllowed),
            ("https://192.0.0.192/", Code::AddressNotAllowed),
            ("https://192.0.2.1/", Code::AddressNotAllowed),
            ("https://192.88.99.1/", Code::AddressNotAllowed),
            ("https://198.18.0.1/", Code::AddressNotAllowed),
            ("https://198.51.100.1/", Code::AddressNotAllowed),
            ("https://203.0.113.1/", Code::AddressNotAllowed),
            ("https://224.0.0.1/", Code::AddressNotAllowed),
            ("https://239.255.255.250/", Code::AddressNotAllowed),
            ("https://240.0.0.1/", Code::AddressNotAllowed),
            ("https://255.255.255.255/", Code::AddressNotAllowed),
            ("https://[::]/", Code::AddressNotAllowed),
            ("https://[::1]/", Code::AddressNotAllowed),
            ("https://[0:0:0:0:0:0:0:1]/", Code::AddressNotAllowed),
            ("https://[::ffff:127.0.0.1]/", Code::AddressNotAllowed),
            ("https://[::ffff:7f00:1]/", Code::AddressNotAllowed),
            ("https://[::127.0.0.1]/", Code::AddressNotAllowed),
            ("https://[::ffff:169.254.169.254]/", Code::AddressNotAllowed),
            ("https://[64:ff9b::7f00:1]/", Code::AddressNotAllowed),
            ("https://[64:ff9b::a9fe:a9fe]/", Code::AddressNotAllowed),
            ("https://[64:ff9b:1::1]/", Code::AddressNotAllowed),
            ("https://[2002:7f00:1::]/", Code::AddressNotAllowed),
            ("https://[2001:0:7f00:1::]/", Code::AddressNotAllowed),
            ("https://[2001:db8::1]/", Code::AddressNotAllowed),
            ("https://[fc00::1]/", Code::AddressNotAllowed),
            ("https://[fd00:ec2::254]/", Code::AddressNotAllowed),
            ("https://[fe80::1]/", Code::AddressNotAllowed),
            ("https://[fec0::1]/", Code::AddressNotAllowed),
            ("https://[ff02::1]/", Code::AddressNotAllowed),
            ("https://[100::1]/", Code::AddressNotAllowed),
            ("https://[5f00::1]/", Code::AddressNotAllowed),
            ("https://agent.example:22/", Code::UrlPort),
            ("https://agent.example:25/", Code::UrlPort),
            ("https://agent.example:1/", Code::UrlPort),
            ("https://agent.example:0/", Code::UrlPort),
            ("https://93.184.215.14:6379/x", Code::Internal),
            ("http://agent.example/", Code::UrlScheme),
            ("http://127.0.0.1/", Code::UrlScheme),
            ("gopher://127.0.0.1:70/", Code::UrlScheme),
            ("file:///etc/passwd", Code::UrlScheme),
            ("ftp://agent.example/", Code::UrlScheme),
            ("https://user:secret@agent.example/", Code::UrlCredentials),
            ("https://agent.example@127.0.0.1/", Code::UrlCredentials),
            ("https://", Code::UrlInvalid),
            ("https://[::1/", Code::UrlInvalid),
            ("https://127.0.0.1\u{0}/", Code::UrlInvalid),
            ("https://①②⑦.0.0.1/", Code::UrlInvalid),
            ("//127.0.0.1/", Code::UrlInvalid),
        ] {
            // 6379 is above 1024, and that address is public: the one in the list that passes.
            let expected = (code != Code::Internal).then_some(code);
            assert_eq!(refused(&policy, url), expected, "{url}");
        }
        for (uri, code) in [
            ("sip:a@127.0.0.1", Code::AddressNotAllowed),
            ("sip:a@10.0.0.1:5060", Code::AddressNotAllowed),
            ("sip:a@[::1]:5061;transport=tls", Code::AddressNotAllowed),
            ("sip:a@[::ffff:192.168.0.1]", Code::AddressNotAllowed),
            ("sip:a@agents.example:25", Code::UrlPort),
        ] {
            let address = SipUri::parse(uri).unwrap().address();
            assert_eq!(policy.check(&address).map_err(|refusal| refusal.code), Err(code), "{uri}");
        }
    }

    #[test]
    fn public_addresses_pass() {
        let policy = policy("");
        for url in [
            "https://agent.example/route?x=1",
            "https://agent.example:8443/",
            "https://93.184.215.14/",
            "https://[2606:2800:220:1:248:1893:25c8:1946]/",
            "https://[64:ff9b::5db8:d70e]/",
        ] {
            assert_eq!(refused(&policy, url), None, "{url}");
        }
    }

    #[test]
    fn the_operator_may_allow_more_but_never_a_clouds_interface_by_the_way() {
        let open = policy(
            "allowed_addresses = [\"10.1.0.0/16\", \"127.0.0.1:9000\", \"127.0.0.1:25\", \"169.254.0.0/16\"]\nallowed_ports = [22]\ndanger_plain_to_loopback = true",
        );
        for (url, code) in [
            ("https://10.1.2.3/", None),
            ("https://10.2.2.3/", Some(Code::AddressNotAllowed)),
            ("https://10.1.2.3:22/", None),
            ("https://10.1.2.3:25/", Some(Code::UrlPort)),
            ("http://127.0.0.1:9000/", None),
            ("http://127.0.0.1:25/", None),
            ("https://93.184.215.14:25/", Some(Code::UrlPort)),
            ("https://agent.example:25/", Some(Code::UrlPort)),
            ("http://127.0.0.1:9001/", Some(Code::AddressNotAllowed)),
            ("http://10.1.2.3/", Some(Code::UrlScheme)),
            ("https://169.254.169.254/", Some(Code::AddressNotAllowed)),
        ] {
            assert_eq!(refused(&open, url), code, "{url}");
        }
    }

    #[tokio::test]
    async fn names_that_lead_inside_are_refused_when_saved_and_when_dialled() {
        let egress = Egress::new(&config::Egress::default()).unwrap();
        for name in ["localhost", "LOCALHOST", "localhost.", "agent.localhost"] {
            let address = Address { host: Host::Domain(name.to_owned()), port: 8443 };
            assert_eq!(
                egress.address_check(&address).await.unwrap_err().code,
                Code::AddressNotAllowed,
                "{name}"
            );
            assert!(egress.client_for(&address).is_err(), "{name}");
        }
        // A name that says nothing of itself, as far as this machine knows one: what it stands for is checked when dialled.
        let sent = egress.client.get("https://localhost:8443/").send().await;
        let said = carriers::http::without_url(sent.unwrap_err());
        assert!(said.contains("address_not_allowed"), "{said}");
    }

    #[tokio::test]
    async fn an_exactly_allowed_address_is_reached_on_its_port_only() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let other = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (port, closed) = (listener.local_addr().unwrap().port(), other.local_addr().unwrap().port());
        let settings = format!("allowed_addresses = [\"127.0.0.1:{port}\"]\ndanger_plain_to_loopback = true");
        let egress = Egress::new(&toml::from_str(&settings).unwrap()).unwrap();
        let address = |port| Address { host: Host::Domain("localhost".to_owned()), port };
        let literal = Address { host: Host::Ipv4(Ipv4Addr::LOCALHOST), port };
        let client = egress.client_for(&literal).unwrap();
        let (_sent, accepted) = tokio::join!(
            client.get(format!("http://127.0.0.1:{port}/")).timeout(Duration::from_millis(200)).send(),
            listener.accept()
        );
        assert!(accepted.is_ok());
        assert!(egress.client_for(&address(closed)).is_err());
        let said = egress.client.get(format!("http://localhost:{closed}/")).send().await.unwrap_err();
        assert!(carriers::http::without_url(said).contains("address_not_allowed"));
    }
}
