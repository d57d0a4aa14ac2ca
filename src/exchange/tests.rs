//! Exchanges against a server that keeps what it was asked, by http: what goes over the wire, and what of an answer is taken.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;

/// A server of these answers, one a request: status and body.
struct AnsweringServer {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

fn read(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut text, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        if line.trim().is_empty() {
            break;
        }
        text.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    text + "\n" + &String::from_utf8(body).expect("text")
}

impl AnsweringServer {
    fn start(answers: Vec<(u16, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(vec![]));
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().expect("a connection");
                kept.lock().expect("a list").push(read(&stream));
                let head =
                    format!("HTTP/1.1 {status} X\r\nlocation: https://elsewhere.invalid/\r\nconnection: close\r\n");
                write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).expect("sent");
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("a list").clone()
    }
}

fn environment(server: &AnsweringServer) -> Environment {
    let mut environment = Environment::read();
    environment.set(ID_TOKEN_URL, format!("{}/identity?api-version=2", server.address));
    environment.set(ID_TOKEN_KEY, "the-jobs-own-key".to_owned());
    environment.set("CLIENT_SECRET", "p:s/w rd".to_owned());
    environment.set("VAULT_TOKEN", "hvs.for-the-test".to_owned());
    environment
}

async fn value(exchange: TokenExchange, server: &AnsweringServer) -> Result<(String, Option<u64>), String> {
    let fresh = of_plan(&exchange, &environment(server)).exchange().await?;
    let text = String::from_utf8(fresh.value.expose().clone()).expect("text");
    Ok((text, fresh.life.map(|life| life.to - life.from)))
}

fn oidc(server: &AnsweringServer) -> OidcSource {
    OidcSource {
        audience: "https://sts.example.net".to_owned(),
        token_url: Some(format!("{}/token", server.address)),
        resource: None,
        scope: Some("read write".to_owned()),
        anthropic: None,
        aws: None,
    }
}

fn vault(server: &AnsweringServer) -> VaultSource {
    VaultSource {
        address: server.address.clone(),
        path: "secret/data/ci".to_owned(),
        field: "password".to_owned(),
        token_from: SecretName::parse("VAULT_TOKEN").ok(),
        role: None,
        audience: None,
        namespace: None,
    }
}

fn ok(body: &Value) -> (u16, String) {
    (200, body.to_string())
}

#[tokio::test]
async fn an_identity_token_is_exchanged_as_rfc_8693_says() {
    let granted = json!({"access_token": "granted-token", "token_type": "Bearer", "expires_in": 3600});
    let server = AnsweringServer::start(vec![ok(&json!({"value": "the.jobs.jwt"})), ok(&granted)]);
    let got = value(TokenExchange::Oidc(oidc(&server)), &server).await;
    assert_eq!(got, Ok(("granted-token".to_owned(), Some(3_600_000))));
    let asked = server.asked();
    assert!(
        asked[0].starts_with("GET /identity?api-version=2&audience=https%3A%2F%2Fsts.example.net "),
        "{}",
        asked[0]
    );
    assert!(asked[0].contains("authorization: Bearer the-jobs-own-key\r\n"), "{}", asked[0]);
    assert!(asked[1].starts_with("POST /token ") && !asked[1].contains("the-jobs-own-key"), "{}", asked[1]);
    let body = &asked[1];
    assert!(
        body.ends_with(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=the.jobs.jwt\
             &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt\
             &requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&scope=read+write"
        ),
        "{body}"
    );
}

#[tokio::test]
async fn a_clients_secret_goes_by_basic_and_is_encoded_first() {
    let server = AnsweringServer::start(vec![ok(&json!({"access_token": "granted-token"}))]);
    let oauth = OauthSource {
        token_url: format!("{}/token", server.address),
        client_id: "ci".to_owned(),
        client_secret_from: SecretName::parse("CLIENT_SECRET").expect("a name"),
        scope: None,
        audience: Some("api".to_owned()),
    };
    assert_eq!(value(TokenExchange::Oauth(oauth), &server).await, Ok(("granted-token".to_owned(), None)));
    // ci:p%3As%2Fw+rd
    let asked = server.asked().remove(0);
    assert!(asked.contains("authorization: Basic Y2k6cCUzQXMlMkZ3K3Jk\r\n"), "{asked}");
    assert!(asked.ends_with("grant_type=client_credentials&audience=api"), "{asked}");
}

#[tokio::test]
async fn a_field_of_vault_is_read_by_a_token_or_a_role() {
    let versioned =
        json!({"lease_duration": 0, "data": {"data": {"password": "value-of-vault"}, "metadata": {"version": 3}}});
    let server = AnsweringServer::start(vec![ok(&versioned)]);
    let got = value(TokenExchange::Vault(vault(&server)), &server).await;
    assert_eq!(got, Ok(("value-of-vault".to_owned(), None)));
    let asked = server.asked().remove(0);
    assert!(
        asked.starts_with("GET /v1/secret/data/ci ") && asked.contains("x-vault-token: hvs.for-the-test\r\n"),
        "{asked}"
    );

    let login = json!({"auth": {"client_token": "hvs.of-a-login", "lease_duration": 60}});
    let dynamic = json!({"lease_id": "database/creds/x", "lease_duration": 60, "data": {"password": "value-of-vault"}});
    let server = AnsweringServer::start(vec![ok(&json!({"value": "the.jobs.jwt"})), ok(&login), ok(&dynamic)]);
    let source = VaultSource {
        token_from: None,
        role: Some("ci".to_owned()),
        namespace: Some("team".to_owned()),
        ..vault(&server)
    };
    let got = value(TokenExchange::Vault(source), &server).await;
    assert_eq!(got, Ok(("value-of-vault".to_owned(), Some(60_000))));
    let asked = server.asked();
    assert!(
        asked[1].starts_with("POST /v1/auth/jwt/login ") && asked[1].contains("x-vault-namespace: team\r\n"),
        "{}",
        asked[1]
    );
    assert!(asked[1].ends_with(r#"{"jwt":"the.jobs.jwt","role":"ci"}"#), "{}", asked[1]);
    assert!(asked[2].contains("x-vault-token: hvs.of-a-login\r\n"), "{}", asked[2]);
}

#[tokio::test]
async fn what_is_no_value_is_an_error_that_says_nothing_of_the_answer() {
    let long = "x".repeat(MAX_ANSWER_BYTES + 1);
    for (status, body, says) in [
        (
            400,
            r#"{"error": "invalid_grant", "error_description": "the.jobs.jwt"}"#,
            "/token answered 400 (invalid_grant)",
        ),
        (
            403,
            r#"{"type": "error", "error": {"type": "permission_error", "message": "the.jobs.jwt"}}"#,
            "answered 403 (permission_error)",
        ),
        (401, r#"{"error": "the.jobs.jwt"}"#, "/token answered 401"),
        (302, "", "/token answered 302"),
        (200, r#"{"token": "leaked-token"}"#, "answered with something else than was asked for"),
        (200, r#"{"access_token": "two\nlines", "expires_in": 60}"#, "gave no usable value: it has more than one line"),
        (200, r#"{"access_token": "granted-token", "expires_in": 0}"#, "gave no usable value: it has ended already"),
        (
            200,
            r#"{"access_token": "granted-token", "expires_in": -5}"#,
            "answered with something else than was asked for",
        ),
        (200, long.as_str(), "the answer is longer than 65536 bytes"),
    ] {
        let server = AnsweringServer::start(vec![ok(&json!({"value": "the.jobs.jwt"})), (status, body.to_owned())]);
        let why = value(TokenExchange::Oidc(oidc(&server)), &server).await.expect_err(body);
        assert!(why.contains(says) && why.starts_with("http://127.0.0.1:"), "{why}");
        assert!(!why.contains("jwt") && !why.contains("leaked") && !why.contains("granted"), "{why}");
    }
    let server = AnsweringServer::start(vec![]);
    let mut bare = environment(&server);
    bare.take(ID_TOKEN_URL);
    let exchange = of_plan(&TokenExchange::Oidc(oidc(&server)), &bare);
    let why = exchange.exchange().await.expect_err("no identity token");
    assert_eq!(why, format!("this job has no identity token: {ID_TOKEN_URL} is not set"));
    assert!(exchange.hint().contains("id-token: write"));
}

#[tokio::test]
async fn anthropic_is_asked_as_its_reference_says_and_not_without_an_identity() {
    let mut federation = AnthropicFederation {
        rule: "fdrl_1".to_owned(),
        organization: "8f3c".to_owned(),
        service_account: "svac_1".to_owned(),
        workspace: None,
    };
    let mut wanted = json!({
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": "the.jobs.jwt",
        "federation_rule_id": "fdrl_1",
        "organization_id": "8f3c",
        "service_account_id": "svac_1",
    });
    let identity = Secret::new("the.jobs.jwt".to_owned());
    assert_eq!(anthropic_body(&federation, &identity), wanted);
    federation.workspace = Some("default".to_owned());
    wanted["workspace_id"] = json!("default");
    assert_eq!(anthropic_body(&federation, &identity), wanted);

    let server = AnsweringServer::start(vec![(500, String::new())]);
    let source = OidcSource { token_url: None, scope: None, anthropic: Some(federation), ..oidc(&server) };
    let why = value(TokenExchange::Oidc(source), &server).await.expect_err("no identity token");
    assert_eq!(why, format!("{ID_TOKEN_URL} answered 500"));
}

/// An answer as the STS API Reference shows it; `END` stands for its end.
const ASSUMED: &str = r#"<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <SubjectFromWebIdentityToken>repo:team/app:ref:refs/heads/main</SubjectFromWebIdentityToken>
    <Audience>sts.amazonaws.com</Audience>
    <AssumedRoleUser>
      <Arn>arn:aws:sts::123456789012:assumed-role/ci/claude-bottle</Arn>
      <AssumedRoleId>AROACLKWSDQRAOEXAMPLE:claude-bottle</AssumedRoleId>
    </AssumedRoleUser>
    <Credentials>
      <SessionToken>a-session-token/of+this==</SessionToken>
      <SecretAccessKey>a-secret/access+key</SecretAccessKey>
      <Expiration>END</Expiration>
      <AccessKeyId>an-access-key-id</AccessKeyId>
    </Credentials>
    <Provider>token.actions.githubusercontent.com</Provider>
  </AssumeRoleWithWebIdentityResult>
  <ResponseMetadata><RequestId>ad4156e9-bce1-11e2-82e6-6b6efEXAMPLE</RequestId></ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>"#;

fn assumed(server: &AnsweringServer) -> TokenExchange {
    let aws = AwsRole {
        role: "arn:aws:iam::123456789012:role/ci".to_owned(),
        region: "eu-central-1".to_owned(),
        sts_url: Some(format!("{}/", server.address)),
        session_name: None,
    };
    let audience = "sts.amazonaws.com".to_owned();
    TokenExchange::Oidc(OidcSource { audience, token_url: None, scope: None, aws: Some(aws), ..oidc(server) })
}

#[tokio::test]
async fn a_role_of_aws_is_assumed_with_the_jobs_identity() {
    let answer = (200, ASSUMED.replace("END", "2130-01-02T03:04:05Z"));
    let server = AnsweringServer::start(vec![ok(&json!({"value": "the.jobs.jwt"})), answer]);
    let (text, life) = value(assumed(&server), &server).await.expect("keys");
    assert_eq!(
        text,
        r#"{"Version":1,"AccessKeyId":"an-access-key-id","SecretAccessKey":"a-secret/access+key","SessionToken":"a-session-token/of+this=="}"#
    );
    assert!(life.is_some_and(|life| life > 3_600_000));
    let asked = &server.asked()[1];
    assert!(asked.starts_with("POST / ") && !asked.contains("authorization:"), "{asked}");
    assert!(
        asked.ends_with(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fci\
             &RoleSessionName=claude-bottle&WebIdentityToken=the.jobs.jwt"
        ),
        "{asked}"
    );
}

#[tokio::test]
async fn of_an_answer_of_sts_that_has_no_keys_nothing_is_told_but_the_errors_code() {
    let error =
        |code: &str| format!("<ErrorResponse><Error><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>");
    let good = ASSUMED.replace("END", "2130-01-02T03:04:05Z");
    let key = "<SecretAccessKey>a-secret/access+key</SecretAccessKey>";
    for (status, body, told) in [
        (400, error("InvalidIdentityToken"), "/ answered 400 (InvalidIdentityToken)"),
        (403, error("the.jobs.jwt"), "/ answered 403"),
        (200, ASSUMED.replace("END", "2001-01-02T03:04:05Z"), "/ gave no usable value: it has ended already"),
        (200, ASSUMED.replace("END", "soon"), "/ gave no usable value: its `expires_at` is no time"),
        (200, good.replace(key, ""), "something else"),
        (200, good.replace(key, &key.repeat(2)), "something else"),
        (200, good.replace("a-secret/", "a-secret&#10;"), "something else"),
        (200, good.replace("a-secret/", "a secret/"), "something else"),
        (200, good.replace("</Credentials>", ""), "something else"),
        (200, "{}".to_owned(), "something else"),
    ] {
        let server = AnsweringServer::start(vec![ok(&json!({"value": "the.jobs.jwt"})), (status, body)]);
        let why = value(assumed(&server), &server).await.expect_err(told);
        assert!(why.contains(told) && !why.contains("jwt") && !why.contains("a-secret"), "{why}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test starts the real parser, and is told by a variable where it is")]
fn the_answer_of_the_tests_is_one_to_botocore() {
    let python = std::env::var("BOTTLE_TEST_PYTHON").expect("BOTTLE_TEST_PYTHON: run the tests by scripts/test");
    let code = "import sys, json, botocore.session, botocore.parsers as p\n\
                shape = botocore.session.get_session().get_service_model('sts').operation_model('AssumeRoleWithWebIdentity').output_shape\n\
                got = p.create_parser('query').parse({'status_code': 200, 'headers': {}, 'body': sys.argv[1].encode()}, shape)\n\
                c = got['Credentials']; print(c['AccessKeyId'], c['SecretAccessKey'], c['SessionToken'], c['Expiration'].isoformat())";
    let body = ASSUMED.replace("END", "2130-01-02T03:04:05Z");
    let output = std::process::Command::new(python).args(["-c", code, &body]).output().expect("python");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "an-access-key-id a-secret/access+key a-session-token/of+this== 2130-01-02T03:04:05+00:00",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (keys, expiration) = sts::keys(body.as_bytes()).expect("keys");
    assert_eq!((keys.access_key_id.as_str(), expiration.as_str()), ("an-access-key-id", "2130-01-02T03:04:05Z"));
}
