//! Real servers between the library and the provider: TLS, reverse proxies, proxies, name servers.

mod support;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::Logger;
use support::pace::until;
use support::server::{Server, Then, completion, response};
use support::tls::{Certificates, HERE, Running, free_port, nginx};
use support::{Scratch, available, compile, entries, merged, release, root, run};

fn tinyproxy(scratch: &Scratch) -> (Running, u16) {
    let port = free_port();
    let path = scratch.join("tinyproxy.conf");
    let config = format!(
        "Port {port}\nListen 127.0.0.1\nTimeout 60\nAllow 127.0.0.1\nLogFile \"{}\"\n\
         BasicAuth user secret\n",
        scratch.join("tinyproxy.log").display()
    );
    std::fs::write(&path, config).expect("it can be written");
    let command = &mut Command::new("tinyproxy");
    (
        Running::start(command.arg("-d").arg("-c").arg(path).stdout(Stdio::null())).on(port),
        port,
    )
}

/// Answers a model's name that is a status with that error, and streams if asked.
/// Makes a call to a server that never answers, and ends it when something is so.
fn asks_until(config: &Value, so: impl Fn() -> bool) {
    let logger = Logger::new(&merged(config.clone(), &json!({"timeout_ms": 60_000})));
    std::thread::scope(|scope| {
        scope.spawn(|| drop(logger.ask("hello").expect(AUDIT_E_CANCELLED)));
        until("the server shows what it was sent", so);
        logger.close(0).expect(AUDIT_E_TIMEOUT);
    });
}

/// Whether what a server printed has a text in it.
fn shows(printed: &Path, text: &str) -> bool {
    let printed = std::fs::read(printed).unwrap_or_default();
    String::from_utf8_lossy(&printed).contains(text)
}

fn provider() -> Server {
    Server::start(|request, stream| {
        let body = request.json();
        if let Some(status) = body["model"].as_str().and_then(|text| text.parse().ok()) {
            let error = br#"{"error":{"code":429,"message":"m"}}"#;
            stream.write_all(&response(status, &[], error))?;
        } else if body["stream"] == true {
            let events = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n\
                data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"},\
                \"finish_reason\":\"stop\"}]}\n\n\
                data: [DONE]\n\n";
            let headers = [("content-type", "text/event-stream")];
            stream.write_all(&response(200, &headers, events.as_bytes()))?;
        } else {
            let said = body["messages"][0]["content"]
                .as_str()
                .unwrap_or_default()
                .len();
            stream.write_all(&response(
                200,
                &[],
                completion(&said.to_string()).as_bytes(),
            ))?;
        }
        Ok(Then::Keep)
    })
}

#[test]
fn every_way_to_the_provider_gives_the_same_answers_and_entries() {
    if !(available("openssl") && available("nginx") && available("tinyproxy")) {
        return;
    }
    let (scratch, provider) = (Scratch::new(), provider());
    Certificates::new(&scratch).sign("server", HERE, "2");
    let (_nginx, tls) = nginx(&scratch, &provider);
    let (_tinyproxy, proxy) = tinyproxy(&scratch);
    let (plain, tls) = (
        provider.base_url(),
        format!("https://localhost:{tls}/api/v1"),
    );
    let proxy = format!("http://user:secret@127.0.0.1:{proxy}");
    let ask = scratch.join("ask");
    compile(&root().join("tests/c/ask.c"), release(), &ask, &[]);

    for (number, (base_url, proxy)) in [
        (&plain, None),
        (&tls, None),
        (&plain, Some(&proxy)),
        (&tls, Some(&proxy)),
    ]
    .into_iter()
    .enumerate()
    {
        let log = scratch.join(&format!("log{number}"));
        let way = format!("{base_url} through {proxy:?}");
        let config = json!({
            "output_path": log, "base_url": base_url, "api_key": "sk-test", "max_retries": 0,
            "proxy": proxy, "ca_file": scratch.join("ca.pem"),
        });
        let logger = Logger::new(&config);
        for length in [1, 1000, 1_000_000] {
            let answer = logger.ask(&"x".repeat(length)).expect(AUDIT_OK);
            assert_eq!(
                answer.text(AUDIT_REPLY_CONTENT),
                Some(&*length.to_string()),
                "{way}"
            );
        }
        let error = support::calls::text("429");
        let answer = logger.chat(&AuditChatRequest {
            user_id: support::calls::text("user-1"),
            prompt: support::calls::text("hello"),
            model: error,
            ..support::calls::chat_request()
        });
        assert_eq!(
            answer.error_type(),
            "RateLimitError",
            "{way}: {}",
            answer.message()
        );
        let streamed = run(Command::new(&ask).arg(config.to_string()).arg("stream"));
        assert_eq!(streamed, "ab\n", "{way}");

        let logged = entries(&log);
        assert_eq!(logged.len(), 5, "{way}");
        assert!(
            logged
                .iter()
                .all(|entry| entry["details"]["outcome"] == "answered"),
            "{way}"
        );
    }

    // A proxy that wants a password is asked once. The way of https it doesn't open; of http it is
    // the one that answers, this one with 401.
    let wrong = proxy.replace("secret", "wrong");
    for (number, (base_url, class, outcome)) in [
        (&tls, "APIConnectionError", "not_sent"),
        (&plain, "AuthenticationError", "answered"),
    ]
    .into_iter()
    .enumerate()
    {
        let logger = Logger::new(&json!({
            "output_path": scratch.join(&format!("wrong{number}")), "base_url": base_url,
            "api_key": "sk-test", "max_retries": 2, "proxy": wrong,
            "ca_file": scratch.join("ca.pem"),
        }));
        let answer = logger.ask("hello").expect(AUDIT_E_CALL);
        assert_eq!(answer.error_type(), class, "{}", answer.message());
        assert_eq!(answer.int(AUDIT_REPLY_ATTEMPTS), 1);
        assert_eq!(answer.entry()["details"]["outcome"], outcome);
    }
    // http goes through it by its whole URL, for which it needs no CONNECT.
    let log = std::fs::read_to_string(scratch.join("tinyproxy.log")).unwrap_or_default();
    assert!(log.contains("POST http://127.0.0.1:"), "{log}");
}

#[test]
fn a_proxy_comes_from_the_environment_only_where_the_configuration_says_so() {
    if !available("tinyproxy") {
        return;
    }
    let (scratch, provider) = (Scratch::new(), provider());
    let (_tinyproxy, port) = tinyproxy(&scratch);
    let proxy = format!("http://user:secret@127.0.0.1:{port}");
    let log = || std::fs::read_to_string(scratch.join("tinyproxy.log")).unwrap_or_default();
    let connects = || log().matches("POST http://").count();
    let ask = scratch.join("ask");
    compile(&root().join("tests/c/ask.c"), release(), &ask, &[]);
    let call = |configured: Value, variables: &[(&str, &str)], through: bool| {
        let config = json!({
            "output_path": scratch.join("log"), "base_url": provider.base_url(),
            "api_key": "sk-test", "max_retries": 0, "proxy": configured,
        });
        let before = connects();
        let printed = run(Command::new(&ask)
            .arg(config.to_string())
            .envs(variables.iter().copied()));
        if through {
            until("the proxy's word of it", || connects() > before);
        }
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(connects() > before, through, "{configured} {variables:?}");
        printed
    };
    let dead = "http://127.0.0.1:9";
    let everything = [
        ("http_proxy", dead),
        ("all_proxy", dead),
        ("ALL_PROXY", dead),
    ];
    assert_eq!(call(json!(null), &everything, false), "5\n");
    assert_eq!(call(json!("env"), &[], false), "5\n");
    let named = [("http_proxy", &*proxy)];
    assert_eq!(call(json!("env"), &named, true), "5\n");
    let named = [("ALL_PROXY", &*proxy)];
    assert_eq!(call(json!("env"), &named, true), "5\n");
    // Without a scheme, and past a variable that is empty.
    let bare = proxy.trim_start_matches("http://");
    let named = [("http_proxy", ""), ("ALL_PROXY", bare)];
    assert_eq!(call(json!("env"), &named, true), "5\n");
    let past = [
        ("http_proxy", dead),
        ("no_proxy", ""),
        ("NO_PROXY", "x\t127.0.0.1"),
    ];
    assert_eq!(call(json!("env"), &past, false), "5\n");
    // In a CGI program a request's header sets it.
    assert_eq!(call(json!("env"), &[("HTTP_PROXY", dead)], false), "5\n");
    let past = [("http_proxy", dead), ("no_proxy", "example.com,127.0.0.1")];
    assert_eq!(call(json!("env"), &past, false), "5\n");
    let printed = call(json!("env"), &[("http_proxy", dead)], false);
    assert!(printed.starts_with("APIConnectionError"), "{printed}");
    let unknown = [("http_proxy", "socks5://127.0.0.1:9")];
    let printed = call(json!("env"), &unknown, false);
    assert!(printed.starts_with("AUDIT_E_CONFIG"), "{printed}");
}

#[test]
fn a_server_that_can_t_prove_itself_is_refused_before_the_key_is_sent() {
    if !available("openssl") {
        return;
    }
    let scratch = Scratch::new();
    let certificates = Certificates::new(&scratch);
    certificates.sign("server", HERE, "2");
    certificates.sign("elsewhere", "DNS:example.com", "2");
    certificates.sign("expired", HERE, "0");
    certificates.openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
         -keyout self.key -out self.pem -subj /CN=localhost -addext subjectAltName=DNS:localhost",
    );
    std::thread::sleep(Duration::from_millis(1100));
    for (name, more, trusts, says) in [
        ("server", "-quiet", true, ""),
        ("server", "-quiet", false, "UnknownIssuer"),
        ("elsewhere", "-quiet", true, "not valid for name"),
        ("expired", "-quiet", true, "expired"),
        ("self", "-quiet", true, "invalid peer certificate"),
        (
            "server",
            "-quiet -tls1_1 -cipher DEFAULT:@SECLEVEL=0",
            true,
            "ProtocolVersion",
        ),
    ] {
        let port = free_port();
        let received = scratch.join("received");
        let _server = Running::start(
            Command::new("openssl")
                .current_dir(scratch.path())
                .args(["s_server", "-accept", &port.to_string()])
                .args([
                    "-cert",
                    &format!("{name}.pem"),
                    "-key",
                    &format!("{name}.key"),
                ])
                .args(more.split_whitespace())
                .stdout(File::create(&received).expect("it can be written"))
                .stderr(Stdio::null()),
        )
        .on(port);
        let mut config = json!({
            "output_path": scratch.join("log"), "max_retries": 0,
            "base_url": format!("https://localhost:{port}/v1"), "api_key": "sk-canary",
        });
        if trusts {
            config["ca_file"] = json!(scratch.join("ca.pem"));
        }
        let was_sent = || shows(&received, "sk-canary");
        if says.is_empty() {
            // The control: this server, which never answers, does show what it was sent.
            asks_until(&config, was_sent);
            continue;
        }
        let answer = Logger::new(&config).ask("hello").expect(AUDIT_E_CALL);
        std::thread::sleep(Duration::from_millis(100));
        assert!(!was_sent(), "{name} {more}");
        assert_eq!(answer.error_type(), "APIConnectionError", "{name} {more}");
        assert!(
            answer.message().contains(says),
            "{name} {more}: {}",
            answer.message()
        );
        assert_eq!(
            answer.entry()["details"]["outcome"],
            "not_sent",
            "{name} {more}"
        );
    }
}

#[test]
fn a_server_s_own_certificate_is_accepted_for_that_certificate_alone() {
    if !(available("openssl") && available("nginx")) {
        return;
    }
    let (scratch, provider) = (Scratch::new(), provider());
    let certificates = Certificates::new(&scratch);
    let of_its_own = |name: &str, days: &str| {
        certificates.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days {days} \
             -keyout {name}.key -out {name}.pem -subj /CN=localhost \
             -addext subjectAltName=DNS:localhost"
        ));
    };
    of_its_own("server", "2");
    of_its_own("other", "2");
    let (_nginx, port) = nginx(&scratch, &provider);
    let asked = |host: &str, ca: &str| {
        let logger = Logger::new(&json!({
            "output_path": scratch.join("log"), "base_url": format!("https://{host}:{port}/v1"),
            "api_key": "sk-test", "max_retries": 0, "ca_file": scratch.join(ca),
        }));
        let answer = logger.ask("hello");
        (answer.status, answer.message().to_owned())
    };
    assert_eq!(
        asked("localhost", "server.pem").0,
        AUDIT_OK,
        "{:?}",
        asked("localhost", "server.pem")
    );
    let (status, message) = asked("localhost", "other.pem");
    assert_eq!(status, AUDIT_E_CALL);
    assert!(message.contains("invalid peer certificate"), "{message}");
    let (status, message) = asked("127.0.0.1", "server.pem");
    assert_eq!(status, AUDIT_E_CALL);
    assert!(message.contains("not valid for name"), "{message}");
}

#[test]
fn authorities_come_from_the_environment_where_the_configuration_says_so() {
    if !(available("openssl") && available("nginx")) {
        return;
    }
    let (scratch, provider) = (Scratch::new(), provider());
    Certificates::new(&scratch).sign("server", HERE, "2");
    let (_nginx, port) = nginx(&scratch, &provider);
    let ask = scratch.join("ask");
    compile(&root().join("tests/c/ask.c"), release(), &ask, &[]);
    let directory = scratch.join("authorities");
    std::fs::create_dir(&directory).expect("it can be made");
    std::fs::copy(scratch.join("ca.pem"), directory.join("ca.pem")).expect("it can be copied");
    std::fs::write(directory.join("README"), "no certificate").expect("it can be written");
    let call = |ca_file: Value, variable: &str, value: &Path| {
        let config = json!({
            "output_path": scratch.join("log"), "api_key": "sk-test", "max_retries": 0,
            "base_url": format!("https://localhost:{port}/v1"), "ca_file": ca_file,
        });
        run(Command::new(&ask)
            .arg(config.to_string())
            .env(variable, value))
    };
    let file = scratch.join("ca.pem");
    assert_eq!(call(json!("env"), "SSL_CERT_FILE", &file), "5\n");
    assert_eq!(call(json!("env"), "SSL_CERT_DIR", &directory), "5\n");
    assert!(call(json!(null), "SSL_CERT_FILE", &file).starts_with("APIConnectionError"));
    let missing = scratch.join("missing");
    assert!(call(json!("env"), "SSL_CERT_FILE", &missing).starts_with("AUDIT_E_CONFIG"));
}

#[test]
fn a_server_that_asks_for_a_certificate_is_shown_one() {
    if !available("openssl") {
        return;
    }
    let scratch = Scratch::new();
    let certificates = Certificates::new(&scratch);
    certificates.sign("server", HERE, "2");
    certificates.openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
         -keyout client.key -out client.pem -subj /CN=the-client",
    );
    let port = free_port();
    let received = scratch.join("received");
    let _server = Running::start(
        Command::new("openssl")
            .current_dir(scratch.path())
            .args(["s_server", "-accept", &port.to_string(), "-Verify", "1"])
            .args([
                "-CAfile",
                "client.pem",
                "-cert",
                "server.pem",
                "-key",
                "server.key",
            ])
            .stdout(File::create(&received).expect("it can be written"))
            .stderr(Stdio::null()),
    )
    .on(port);
    let mut config = json!({
        "output_path": scratch.join("log"), "max_retries": 0,
        "base_url": format!("https://localhost:{port}/v1"), "api_key": "sk-canary",
        "ca_file": scratch.join("ca.pem"), "client_cert_file": scratch.join("client.pem"),
    });
    let Err(half) = Logger::try_new(&config.to_string()) else {
        panic!("a certificate without its key is accepted");
    };
    assert!(
        half.message().contains("client_key_file"),
        "{}",
        half.message()
    );
    config["client_key_file"] = json!(scratch.join("client.key"));
    // The server never answers, but shows what it was sent.
    let was_sent = |what| shows(&received, what);
    asks_until(&config, || was_sent("the-client") && was_sent("sk-canary"));
    config["client_key_file"] = json!(scratch.join("server.key"));
    let Err(foreign) = Logger::try_new(&config.to_string()) else {
        panic!("another certificate's key is accepted");
    };
    assert_eq!(foreign.status, AUDIT_E_CONFIG);
}

#[test]
fn a_ca_file_that_is_none_is_refused() {
    let scratch = Scratch::new();
    let empty = scratch.join("empty.pem");
    std::fs::write(&empty, "no certificate\n").expect("it can be written");
    for (path, says) in [
        (empty, "holds no certificate"),
        (scratch.join("missing"), "can't be read"),
    ] {
        let config = json!({"output_path": scratch.join("log"), "ca_file": path}).to_string();
        let Err(answer) = Logger::try_new(&config) else {
            panic!("{path:?} is accepted")
        };
        assert_eq!(answer.status, AUDIT_E_CONFIG);
        assert!(answer.message().contains(says), "{}", answer.message());
    }
}

#[test]
fn a_name_server_that_never_answers_doesn_t_outlast_the_deadline() {
    if !(available("unshare") && available("ip") && available("python3")) {
        return;
    }
    let can = Command::new("unshare").args(["-mn", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        return support::skip("this user can't make a network namespace");
    }
    let scratch = Scratch::new();
    let ask = scratch.join("ask");
    compile(&root().join("tests/c/ask.c"), release(), &ask, &[]);
    let resolver = "nameserver 127.0.0.1\noptions timeout:30\n";
    std::fs::write(scratch.join("resolv.conf"), resolver).expect("it can be");
    std::fs::write(scratch.join("nsswitch.conf"), "hosts: dns\n").expect("it can be");
    let config = json!({
        "output_path": scratch.join("log"), "base_url": "https://provider.example/v1",
        "api_key": "sk-test", "max_retries": 0, "connect_timeout_ms": 1000,
    });
    // A name server that takes questions and never answers, in a network of its own.
    let script = "ip link set lo up
        mount --bind resolv.conf /etc/resolv.conf
        mount --bind nsswitch.conf /etc/nsswitch.conf
        python3 -c 'import socket,time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((\"127.0.0.1\", 53)); open(\"bound\", \"w\"); time.sleep(60)' &
        until [ -e bound ]; do sleep 0.1; done
        ./ask \"$0\"; kill $!";
    let output = Command::new("unshare")
        .current_dir(scratch.path())
        .env_remove("LD_LIBRARY_PATH")
        .args(["-mn", "sh", "-c", script, &config.to_string()])
        .output()
        .expect("unshare starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(printed.starts_with("APITimeoutError"), "{printed}{errors}");
    let took: u64 = errors
        .lines()
        .find_map(|line| line.parse().ok())
        .expect("it's printed");
    // The resolver by itself would wait thirty seconds.
    assert!((900..20_000).contains(&took), "{took} ms");
    assert_eq!(
        entries(&scratch.join("log"))[0]["details"]["outcome"],
        "not_sent"
    );
}

#[test]
fn nothing_that_the_library_leaves_behind_holds_the_key() {
    let canary = "sk-canary-0123456789";
    let server = Server::start(move |request, stream| {
        // A server that repeats the key in its error, its headers and its answer.
        let key = request
            .header("authorization")
            .unwrap_or_default()
            .to_owned();
        let error = json!({"error": {"message": key, "type": key, "code": key}}).to_string();
        stream.write_all(&response(
            400,
            &[("x-generation-id", &key)],
            error.as_bytes(),
        ))?;
        Ok(Then::Keep)
    });
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": server.base_url(), "api_key": canary,
        "max_retries": 0,
    }));
    let answer = logger.ask("hello").expect(AUDIT_E_CALL);
    logger.flush().expect(AUDIT_OK);
    // In a header of the host's own, as Azure takes it.
    let azure = Logger::new(&json!({
        "output_path": scratch.join("azure"), "base_url": server.base_url(),
        "headers": {"api-key": canary}, "max_retries": 0,
    }));
    let echoed = azure.ask("hello").expect(AUDIT_E_CALL);
    assert!(!echoed.message().contains(canary), "{}", echoed.message());
    fn holds(directory: &Path, text: &str) -> bool {
        std::fs::read_dir(directory)
            .expect("it's there")
            .any(|item| {
                let path = item.expect("it can be read").path();
                if path.is_dir() {
                    return holds(&path, text);
                }
                let bytes = std::fs::read(&path).expect("it can be read");
                bytes
                    .windows(text.len())
                    .any(|window| window == text.as_bytes())
            })
    }
    assert!(!answer.message().contains(canary), "{}", answer.message());
    assert!(!logger.stats().to_string().contains(canary));
    // Their threads come and go in the directories.
    drop((logger, azure));
    assert!(!holds(scratch.path(), canary), "{}", answer.entry());
}
