//! Which addresses are attachments', by the cases of `assets.toml`, and where their names may lead to.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    forge: String,
    address: String,
    /// Where it is fetched; nothing: it is no attachment.
    is: Option<String>,
    #[serde(default)]
    token: bool,
    name: Option<String>,
}

fn assets(forge: &str) -> Assets {
    let (kind, server) = match forge {
        "github" => (ForgeKind::Github, "https://github.com"),
        "ghes" => (ForgeKind::Github, "https://git.example.org:8443"),
        "gitea" => (ForgeKind::Gitea, "https://git.example.org"),
        "gitea-below" => (ForgeKind::Gitea, "https://example.org/git/"),
        "plain" => (ForgeKind::Gitea, "http://127.0.0.1:3000"),
        other => panic!("{other}"),
    };
    Assets::new(kind, server, "octo-org", "textstats").expect("assets")
}

#[test]
fn an_address_is_an_attachment_s_by_its_whole_form() {
    let cases: Cases = toml::from_str(include_str!("assets.toml")).expect("cases");
    for Case { forge, address, is, token, name } in &cases.case {
        let read = assets(forge).read(address);
        assert_eq!(read.as_ref().map(Asset::shown), *is, "{forge} {address}");
        if let Some(asset) = read {
            assert_eq!((asset.may_have_token, &asset.name), (*token, name), "{forge} {address}");
        }
    }
}

#[test]
fn a_redirect_leads_to_attachments_or_to_the_stores_of_github_com() {
    let from =
        Url::parse("https://github.com/user-attachments/assets/0b2f5a3e-1111-4222-8333-944445555666").expect("a url");
    for (forge, location, may) in [
        ("github", "https://github-production-user-asset-6210df.s3.amazonaws.com/1/2.png?X-Amz-Expires=300", true),
        ("github", "https://objects.githubusercontent.com/github-production-repository-file-5c1aeb/1/2?a=b", true),
        ("github", "https://private-user-images.githubusercontent.com/1/2.png?jwt=a.b.c", true),
        ("github", "/user-attachments/files/1/a.txt", true),
        ("github", "/login", false),
        ("github", "http://objects.githubusercontent.com/1", false),
        ("github", "https://objects.githubusercontent.com:444/1", false),
        ("github", "https://a@objects.githubusercontent.com/1", false),
        ("github", "https://objects.githubusercontent.com.evil.org/1", false),
        ("github", "https://evil.s3.amazonaws.com/1", false),
        ("github", "https://127.0.0.1/1", false),
        ("github", "http://169.254.169.254/latest/meta-data/", false),
        ("github", "file:///etc/passwd", false),
        ("github", "https://[::1]/user-attachments/files/1/a.txt", false),
        ("ghes", "https://objects.githubusercontent.com/1", false),
        ("gitea", "https://objects.githubusercontent.com/1", false),
    ] {
        assert_eq!(assets(forge).next(&from, location).is_ok(), may, "{forge} {location}");
    }
}

#[test]
fn a_store_of_github_com_is_at_public_addresses_and_others_may_be_anywhere() {
    let at = |address: &str| vec![SocketAddr::new(address.parse().expect("an address"), 0)];
    let store = "objects.githubusercontent.com";
    assert_eq!(judged(store, at("140.82.121.3")).expect("public").len(), 1);
    for address in ["127.0.0.1", "10.0.0.7", "169.254.169.254", "::1", "fd00:ec2::254", "::ffff:127.0.0.1", "0.0.0.0"] {
        for name in [store, "OBJECTS.githubusercontent.com", "objects.githubusercontent.com."] {
            assert!(judged(name, at(address)).is_err(), "{name} {address}");
        }
        let both = [at("140.82.121.3"), at(address)].concat();
        assert!(judged(store, both).is_err(), "{address} beside a public one");
        assert!(judged("git.internal", at(address)).is_ok(), "a company's forge and its proxy");
    }
}
