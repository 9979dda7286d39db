//! The server as the configuration names it: its URL, the proxy before it, and who vouches for it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::sys::{self, SecretBytes};

/// An HTTP proxy.
#[derive(Clone)]
pub struct Proxy {
    /// Whether it is spoken to by TLS.
    pub tls: bool,
    /// Its name or address, without brackets.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// The value of `proxy-authorization`.
    pub authorization: Option<Arc<SecretBytes>>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxy").field(&self.host).finish()
    }
}

/// Who may vouch for a server beside the bundled authorities, and who vouches for the client.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Authorities, or servers' own certificates.
    pub given: Vec<CertificateDer<'static>>,
    /// Shown to servers that ask.
    pub client: Option<Arc<CertifiedKey>>,
}

/// The URL that requests go to.
pub fn endpoint(base_url: &str, allow_http: bool) -> Result<Uri, &'static str> {
    below(base_url, "chat/completions", allow_http)
}

/// The URL by which a witness is shown checkpoints. What it's sent is no secret, and what it answers is
/// signed.
pub fn witness(prefix: &str) -> Result<Uri, &'static str> {
    below(prefix, "add-checkpoint", true)
}

/// The URL of a time stamping authority. What it's sent is no secret, and what it answers is signed.
pub fn authority(url: &str) -> Result<Uri, &'static str> {
    checked(url, true)
}

/// A URL below another one.
fn below(base_url: &str, path: &str, allow_http: bool) -> Result<Uri, &'static str> {
    if base_url.contains(['?', '#']) {
        return Err("has a query or a fragment");
    }
    let full = format!("{}/{path}", base_url.trim_end_matches('/'));
    checked(&full, allow_http)
}

/// A URL to which something can be sent.
fn checked(full: &str, allow_http: bool) -> Result<Uri, &'static str> {
    let Ok(uri) = full.parse::<Uri>() else {
        return Err("isn't a URL");
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("has no scheme or no host");
    };
    let host = authority.host();
    if authority.as_str().contains('@') {
        return Err("holds a user name or a password (give a key by \"api_key\")");
    }
    if host.is_empty() || host.len() > 253 {
        return Err("has a host of no length or of more than 253 characters");
    }
    let inside = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if inside.is_some_and(|inside| inside.parse::<Ipv6Addr>().is_err()) {
        return Err("has a host in brackets that isn't an IPv6 address");
    }
    // The parser takes "host:" and "host:99999" for a host without a port.
    let port = authority.as_str()[host.len()..].strip_prefix(':');
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err("has a port that isn't from 1 to 65535");
    }
    match scheme {
        "https" => Ok(uri),
        "http" if allow_http || is_loopback(host) => Ok(uri),
        "http" => Err("sends the key unencrypted (set \"allow_http\" to true to allow it)"),
        _ => Err("has a scheme other than https and http"),
    }
}

/// A host without the brackets that an IPv6 address has in a URL.
pub fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || bare(host)
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

impl Proxy {
    /// The proxy of a URL; without a scheme it is spoken to by http.
    pub fn of(url: &str) -> Result<Proxy, &'static str> {
        let wrong = "must be \"env\", null or a URL such as \"http://user:password@host:3128\"";
        let (tls, rest) = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some(_) => return Err(wrong),
            None => (false, url),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (place, ""),
        };
        let port = match port {
            "" if tls => 443,
            // As curl has it.
            "" => 1080,
            port => port.parse().ok().filter(|port| *port > 0).ok_or(wrong)?,
        };
        let is_ipv6 = bare(host).parse::<Ipv6Addr>().is_ok();
        let is_host = |byte: u8| byte.is_ascii_graphic() && !b"[]@:\\\"<>".contains(&byte);
        if host.is_empty() || !(is_ipv6 || host.bytes().all(is_host)) {
            return Err(wrong);
        }
        let authorization = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let mut given = Zeroizing::new(decoded(name).ok_or(wrong)?);
            given.push(b':');
            given.extend_from_slice(&Zeroizing::new(decoded(password).ok_or(wrong)?));
            let basic = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*given)));
            SecretBytes::copy_of(basic.as_bytes())
                .map(Arc::new)
                .map_err(|_| "can't be kept: there's no memory for it")
        });
        Ok(Proxy {
            tls,
            host: bare(host).to_owned(),
            port,
            authorization: authorization.transpose()?,
        })
    }

    /// The proxy that curl's users set: by the scheme of the request, or for all. An error names
    /// the variable.
    pub fn from_environment(url: &Uri) -> Result<Option<Proxy>, String> {
        if sys::is_privileged() {
            return Ok(None);
        }
        // An empty one is as good as none.
        let set = |name: &&'static str| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty());
            Some((*name, value?))
        };
        let value = |names: &[&'static str]| names.iter().find_map(set);
        // Upper-case HTTP_PROXY isn't read: in a CGI program a request's header sets it.
        let names: &[&str] = match url.scheme_str() {
            Some("https") => &["https_proxy", "HTTPS_PROXY"],
            _ => &["http_proxy"],
        };
        let Some((name, proxy)) = value(names).or_else(|| value(&["all_proxy", "ALL_PROXY"]))
        else {
            return Ok(None);
        };
        let exempt = value(&["no_proxy", "NO_PROXY"]).map(|(_, hosts)| hosts);
        if is_exempt(url.host().unwrap_or_default(), &exempt.unwrap_or_default()) {
            return Ok(None);
        }
        let wrong = |_| format!("the environment variable {name} must be the URL of an HTTP proxy");
        Proxy::of(&proxy).map(Some).map_err(wrong)
    }
}

/// A name or a password, its percent-encoding undone.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(2 * bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            out.push(byte);
            at += 1;
            continue;
        }
        let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
        let value = (digit(at + 1)? << 4) | digit(at + 2)?;
        out.push(u8::try_from(value).ok()?);
        at += 3;
    }
    Some(out)
}

/// Whether `no_proxy` names a host: by itself, by a domain above it (with or without a leading
/// dot), by a block of addresses, or all by "*" alone. As curl reads it.
fn is_exempt(host: &str, no_proxy: &str) -> bool {
    if no_proxy == "*" {
        return true;
    }
    let address = bare(host).parse::<IpAddr>();
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    no_proxy
        .split([',', ' ', '\t'])
        .filter(|pattern| !pattern.is_empty())
        .any(|pattern| match address {
            Ok(address) => is_in_block(address, pattern).unwrap_or(false),
            Err(_) => {
                let domain = pattern.strip_suffix('.').unwrap_or(pattern);
                let domain = domain.strip_prefix('.').unwrap_or(domain);
                let domain = domain.to_ascii_lowercase();
                let above = name.strip_suffix(&domain);
                !domain.is_empty()
                    && above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
        })
}

/// Whether an address is that, or in that block.
fn is_in_block(address: IpAddr, pattern: &str) -> Option<bool> {
    let (block, bits) = match pattern.split_once('/') {
        Some((block, bits)) => (block, bits.parse::<u32>().ok()?),
        None => (pattern, 0),
    };
    let (address, block, width) = match (address, block.parse().ok()?) {
        (IpAddr::V4(address), IpAddr::V4(block)) => (
            u128::from(address.to_bits()),
            u128::from(block.to_bits()),
            32u32,
        ),
        (IpAddr::V6(address), IpAddr::V6(block)) => (address.to_bits(), block.to_bits(), 128),
        _ => return None,
    };
    // A block of no bits is the address alone.
    let bits = if bits == 0 { width } else { bits };
    let differing = 128 - (address ^ block).leading_zeros();
    width.checked_sub(bits).map(|free| differing <= free)
}

impl Trust {
    /// Adds the certificates in a PEM file.
    pub fn add_file(&mut self, path: &Path) -> Result<(), String> {
        let text = std::fs::read(path).map_err(|error| format!("can't be read: {error}"))?;
        let found = certificates(&text)?;
        if found.is_empty() {
            return Err("holds no certificate; it must hold some in PEM".into());
        }
        self.given.extend(found);
        Ok(())
    }

    /// Adds what the environment names, as OpenSSL's users set it: SSL_CERT_FILE, and the files in
    /// the directories of SSL_CERT_DIR. An error names the variable.
    pub fn add_from_environment(&mut self) -> Result<(), String> {
        // A setuid host's environment is its caller's word.
        if sys::is_privileged() {
            return Ok(());
        }
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(file) = set("SSL_CERT_FILE") {
            let wrong =
                |wrong| format!("the environment variable SSL_CERT_FILE names a file that {wrong}");
            self.add_file(Path::new(&file)).map_err(wrong)?;
        }
        for directory in set("SSL_CERT_DIR").iter().flat_map(std::env::split_paths) {
            let unread = |error: io::Error| {
                format!(
                    "the environment variable SSL_CERT_DIR names a directory that can't be read: {error}"
                )
            };
            for item in std::fs::read_dir(directory).map_err(unread)? {
                let path = item.map_err(unread)?.path();
                // Other files lie there too, and a link may lead nowhere.
                let text = std::fs::read(path).unwrap_or_default();
                self.given.extend(certificates(&text).unwrap_or_default());
            }
        }
        // Each stands there under its name and under its hash.
        self.given
            .sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
        self.given.dedup();
        Ok(())
    }

    /// Sets what vouches for the client: a chain and the key of its first certificate, in PEM.
    pub fn set_client(&mut self, chain: &Path, key: &Path) -> Result<(), String> {
        let read = |name: &str, path: &Path| {
            let text = std::fs::read(path).map(Zeroizing::new);
            text.map_err(|error| format!("\"{name}\" can't be read: {error}"))
        };
        let chain = read("client_cert_file", chain)?;
        let chain =
            certificates(&chain).map_err(|wrong| format!("\"client_cert_file\" {wrong}"))?;
        if chain.is_empty() {
            return Err(
                "\"client_cert_file\" holds no certificate; it must hold some in PEM".into(),
            );
        }
        let key = read("client_key_file", key)?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|error| format!("\"client_key_file\" holds no key in PEM: {error}"))?;
        let pair = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| format!("\"client_key_file\" can't be used: {error}"))?;
        self.client = Some(Arc::new(pair));
        Ok(())
    }
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("holds no PEM that can be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_is_read_as_curl_reads_it() {
        for (host, list, exempt) in [
            ("a.internal.test", "internal.test", true),
            ("a.internal.test", ".internal.test", true),
            ("internal.test", ".internal.test", true),
            ("internal.test", "internal.test.", true),
            ("internal.test.", "internal.test", true),
            ("myinternal.test", "internal.test", false),
            ("A.Internal.Test", "x, INTERNAL.test", true),
            ("a.test", "x\ta.test", true),
            ("a.test", "x \t,\t a.test", true),
            ("a.test", ".", false),
            ("example.com", "*", true),
            ("example.com", "*,x", false),
            ("example.com", "", false),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("10.1.2.3", "10.1.2.3/32", true),
            ("10.1.2.3", "0.0.0.0/0", false),
            ("10.1.2.3", "10.0.0.0/99", false),
            ("10.1.2.3", "2.3", false),
            ("[::1]", "::1", true),
            ("[::1]", "[::1]", false),
            ("[fd00::1]", "fd00::/8", true),
        ] {
            assert_eq!(is_exempt(host, list), exempt, "{host} by {list:?}");
        }
    }

    #[test]
    fn a_proxy_may_be_given_without_a_scheme_and_with_credentials() {
        let of = |url: &str| {
            let proxy = Proxy::of(url).ok()?;
            let authorization = proxy.authorization.map(|bytes| bytes.as_bytes().to_vec());
            let authorization = authorization.map(|bytes| String::from_utf8(bytes).unwrap());
            Some((proxy.tls, proxy.host, proxy.port, authorization))
        };
        let basic = Some("Basic dTpwQHc=".to_owned());
        for (url, proxy) in [
            ("http://h:3128", Some((false, "h".into(), 3128, None))),
            ("h:3128", Some((false, "h".into(), 3128, None))),
            ("h", Some((false, "h".into(), 1080, None))),
            ("https://h/", Some((true, "h".into(), 443, None))),
            ("http://[::1]:8080", Some((false, "::1".into(), 8080, None))),
            ("http://u:p%40w@h:1", Some((false, "h".into(), 1, basic))),
            ("socks5://h:1", None),
            ("http://", None),
            ("http://h:0", None),
            ("http://h:x", None),
            ("http://u:%zz@h", None),
            ("a b", None),
        ] {
            assert_eq!(of(url), proxy, "{url}");
        }
    }
}
