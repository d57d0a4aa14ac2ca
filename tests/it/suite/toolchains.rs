//! Go, Maven and apt in the guest, through both doors: what their presets open can be read by the real tools, and not written to.

use std::os::unix::fs::PermissionsExt as _;

use bottle_testkit::{Server, commands};

use crate::job::{Job, MODEL_ROUTE, ended_with};
use crate::place::{Place, here};

const ORIGIN: &str = "origin.bottle.test";
const MIRROR: &str = "mirror.bottle.test";
const IMAGE: &str = "claude-bottle-test/clients:1";

/// A trust store of one's own, as the reference says it, for a Java that does not take what the system trusts.
const OWN_TRUST: &str = "test -e /tmp/trust.p12 || keytool -importcert -noprompt -alias claude-bottle -file /usr/local/share/ca-certificates/claude-bottle.crt \
                         -keystore /tmp/trust.p12 -storetype PKCS12 -storepass changeit; export JAVA_TOOL_OPTIONS=\"$JAVA_TOOL_OPTIONS \
                         -Djavax.net.ssl.trustStore=/tmp/trust.p12 -Djavax.net.ssl.trustStoreType=PKCS12 -Djavax.net.ssl.trustStorePassword=changeit\" && ";

/// A client's name, what it does, and what it then prints.
fn clients(port: &str) -> Vec<(&'static str, String, &'static str)> {
    let (origin, mirror) = (format!("https://{ORIGIN}:{port}"), format!("https://{MIRROR}:{port}"));
    let file = |name: &str, text: &str| format!("cat > {name} <<'END'\n{text}\nEND\n");
    let go = format!(
        "package main\nimport (\"fmt\"; \"net/http\"; \"os\"; \"strings\")\nfunc main() {{\n\
         asked, _ := http.NewRequest(\"GET\", \"{origin}/echo/go\", nil)\n\
         asked.Header.Set(\"Authorization\", \"Bearer \" + os.Getenv(\"BOTTLE_TEST_TOKEN\"))\n\
         answer, err := http.DefaultClient.Do(asked)\nif err != nil {{ panic(err) }}\n\
         fmt.Println(\"Go got\", answer.StatusCode, \"by\", answer.Proto)\n\
         answer, err = http.Post(\"{mirror}/go/bottle.test/tiny/@v/v2.0.0.zip\", \"application/zip\", strings.NewReader(\"mine\"))\n\
         if err != nil {{ panic(err) }}\nfmt.Println(\"Go wrote\", answer.StatusCode)\n}}"
    );
    let mod_file = "module a\n\ngo 1.19\n\nrequire (\n\tbottle.test/tiny v1.0.0\n\tcorp.bottle.test/tiny v1.0.0\n)";
    let uses = "package main\nimport (\"fmt\"; tiny \"bottle.test/tiny\"; corp \"corp.bottle.test/tiny\")\n\
                func main() { fmt.Println(\"modules\", tiny.Name, corp.Name) }";
    let pom = "<project><modelVersion>4.0.0</modelVersion><groupId>a</groupId><artifactId>a</artifactId><version>1</version>\
               <packaging>pom</packaging><build><extensions><extension><groupId>test.bottle</groupId><artifactId>tiny</artifactId>\
               <version>1.0.0</version></extension></extensions></build></project>";
    let maven = |local: &str| {
        format!(
            "mkdir -p /tmp/maven && cd /tmp/maven && {}mvn -B -ntp -Dmaven.repo.local={local} validate && ls -d {local}/test/bottle/tiny/1.0.0/*",
            file("pom.xml", pom)
        )
    };
    // Debian has the plugin for it, so that no registry need.
    let deploy = format!(
        "cp -rL /usr/share/maven-repo /tmp/deploy; cd /usr/share/maven-repo/org/apache/maven/plugins/maven-deploy-plugin && \
         plugin=$(ls | sort -V | tail -n 1) && cd /tmp && echo mine > mine.jar && {OWN_TRUST}mvn -B -Dmaven.repo.local=/tmp/deploy \
         \"org.apache.maven.plugins:maven-deploy-plugin:$plugin:deploy-file\" -Dfile=/tmp/mine.jar -DgroupId=test.bottle \
         -DartifactId=mine -Dversion=1.0.0 -DgeneratePom=false -DrepositoryId=corp -Durl={mirror}/maven > deploy.log 2>&1; \
         grep -q 'mine-1.0.0.jar.*403' deploy.log && echo maven wrote $((400 + 3)) || cat deploy.log"
    );
    // apt's own directories are root's.
    let apt = "Dir::State \"/tmp/apt\";\nDir::State::status \"/tmp/apt/status\";\nDir::Cache \"/tmp/apt/cache\";\n\
               Dir::Etc::sourcelist \"/tmp/apt/sources.list\";\nDir::Etc::sourceparts \"-\";";
    // apt has no upload; this is what dput does.
    let upload =
        format!("curl -sS -o /dev/null -w 'apt wrote %{{http_code}}' -T /tmp/apt/status {mirror}/apt/pool/mine.deb");
    let mut clients = vec![
        ("placeholder", "echo token=$BOTTLE_TEST_TOKEN".to_owned(), "token=bottle-placeholder-bottle-test-token"),
        (
            "Go's net/http over HTTP/2",
            format!("mkdir /tmp/go && cd /tmp/go && {}go run main.go", file("main.go", &go)),
            "Go got 200 by HTTP/2.0\\nGo wrote 403",
        ),
        (
            "go's modules",
            format!(
                "mkdir /tmp/mod && cd /tmp/mod && {}{}go mod download && go run -mod=mod .",
                file("go.mod", mod_file),
                file("main.go", uses)
            ),
            "modules bottle.test/tiny corp.bottle.test/tiny",
        ),
        (
            "Maven with a trust store of its own",
            format!("{OWN_TRUST}{}", maven("/tmp/own")),
            "/tmp/own/test/bottle/tiny/1.0.0/tiny-1.0.0.jar",
        ),
        ("Maven's own upload", deploy, "maven wrote 403"),
        (
            "apt",
            format!(
                "mkdir -p /tmp/apt/lists/partial /tmp/apt/cache/archives/partial && cd /tmp/apt && touch status && {}\
                 echo 'deb [trusted=yes] {mirror}/apt stable main' > sources.list && export APT_CONFIG=/tmp/apt/apt.conf && \
                 apt-get update && apt-get download tiny && dpkg-deb -f tiny_1.0.0_all.deb Package Description",
                file("apt.conf", apt)
            ),
            "Package: tiny\\nDescription: tiny",
        ),
        ("an upload of a package", upload, "apt wrote 403"),
    ];
    if here() == Place::Docker {
        // Debian's Java takes up what `update-ca-certificates` adds.
        clients.push((
            "Maven with the system's trust",
            maven("/tmp/system"),
            "/tmp/system/test/bottle/tiny/1.0.0/tiny-1.0.0.jar",
        ));
    }
    clients
}

/// What of a company's configuration is on the host. Where the guest has an image, go and mvn are asked in that, too, so that
/// the host needs neither.
fn configure(job: &Job, port: &str) {
    let (world, mirror) = (&job.world, format!("https://{MIRROR}:{port}"));
    let settings = format!(
        "<settings><mirrors><mirror><id>corp</id><mirrorOf>*</mirrorOf><url>{mirror}/maven</url></mirror></mirrors></settings>\n"
    );
    world.write("home/.m2/settings.xml", &settings);
    world.write("sources.list", &format!("deb [trusted=yes] {mirror}/apt stable main\n"));
    let sources = world.path("sources.list");
    let apt = format!("Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"-\";\n", sources.display());
    world.write("apt.conf", &apt);
    if here() != Place::Docker {
        return;
    }
    for (tool, script) in [
        ("go", format!("docker run --rm --network none --env GOPROXY --env GOSUMDB {IMAGE} go \"$@\"")),
        (
            "mvn",
            format!(
                "docker run --rm --interactive --network none {IMAGE} sh -c 'mkdir -p ~/.m2; cat > ~/.m2/settings.xml; mvn \"$@\"' \
                 mvn \"$@\" < \"$HOME/.m2/settings.xml\""
            ),
        ),
    ] {
        let path = world.write(&format!("bin/{tool}"), &format!("#!/bin/sh\nexec {script}\n"));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a program");
    }
}

shared!(
    go_maven_and_apt_read_what_their_presets_open_and_write_nothing:
    docker,
    bubblewrap: "the guest's Go, Maven and apt would be this machine's, which need not have them",
    smolmachines: "the image of a machine has neither Go nor Maven"
);
fn go_maven_and_apt_read_what_their_presets_open_and_write_nothing() {
    let job = Job::new("");
    let names = [ORIGIN, MIRROR];
    let server = Server::start(&job.world, "registries.py", &job.upstream.address, &names, &[job.world.secret()]);
    let (port, address) = (&server.port, &job.upstream.address);
    configure(&job, port);
    let image = if here() == Place::Docker { format!("    image: {IMAGE}\n") } else { String::new() };
    let manifest = format!(
        "version: 1\nbottles:\n  default:\n{image}    egress:\n{MODEL_ROUTE}        \
         - {{ host: {ORIGIN}, port: {port}, auth: {{ bearer: BOTTLE_TEST_TOKEN }} }}\n      presets: [go, maven, apt]\n    \
         pipelock: {{ allow_private: [\"{address}/32\"] }}\n    git:\n{}agents:\n  implementer:\n    bottle: default\n    \
         limits: {{ time: 8m }}\ntriggers:\n  labels: {{ claude: implementer }}\n",
        job.upstream.manifest_entry()
    )
    .replace("extra_hosts: { ", &format!("extra_hosts: {{ {ORIGIN}: {address}, {MIRROR}: {address}, "));
    let manifest = job.world.write("toolchains.yml", &manifest);
    let clients = clients(port);
    let steps: Vec<&str> = clients.iter().map(|(_, command, _)| command.as_str()).collect();
    job.world.write("cassette.yml", &commands(&steps));
    let path = std::env::var("PATH").expect("a PATH");
    let mut command = job.command();
    command
        .arg("--manifest")
        .arg(manifest)
        .env("SSL_CERT_FILE", &server.authority)
        .env("PATH", format!("{}:{path}", job.world.path("bin").display()))
        .env("GOPROXY", format!("https://{MIRROR}:{port}/go,https://{ORIGIN}:{port}/go,direct"))
        .env("GOSUMDB", "off")
        .env("APT_CONFIG", job.world.path("apt.conf"));
    let output = command.output().expect("the runner");
    ended_with(&output, 0);

    let transcript = job.world.record_file("transcript.jsonl");
    for (client, _, printed) in &clients {
        assert!(transcript.contains(printed), "{client} did not print `{printed}`:\n{transcript}");
    }
    let log = std::fs::read_to_string(&server.log).expect("requests");
    let mut asked = vec![];
    for line in log.lines() {
        let request: serde_json::Value = serde_json::from_str(line).expect("a request");
        let word = |key: &str| request[key].as_str().unwrap_or_default().to_owned();
        let (host, path) = (word("host"), word("path"));
        let known = word("authorization") == format!("Bearer {}", job.world.secret());
        assert_eq!(known, host == ORIGIN, "the credential goes to its route and nowhere else: {line}");
        assert!(!line.contains("bottle-placeholder") && word("method") == "GET", "{line}");
        // What each looks for first: a signed index, the module at the other proxy, compressed and translated lists.
        let looked_for = path.starts_with("/apt/dists/") || path.starts_with("/go/corp.");
        assert!(request["status"] == 200 || looked_for, "{line}");
        if request["status"] == 200 {
            asked.push(format!("{host}{path} by {}", word("agent")));
        }
    }
    for (wanted, agent) in [
        ("origin.bottle.test/echo/go", "Go-http-client"),
        ("mirror.bottle.test/go/bottle.test/tiny/@v/v1.0.0.zip", "Go-http-client"),
        ("origin.bottle.test/go/corp.bottle.test/tiny/@v/v1.0.0.zip", "Go-http-client"),
        ("mirror.bottle.test/maven/test/bottle/tiny/1.0.0/tiny-1.0.0.jar", "Apache-Maven"),
        ("mirror.bottle.test/apt/dists/stable/main/binary-", "Debian APT"),
        ("mirror.bottle.test/apt/pool/tiny_1.0.0_all.deb", "Debian APT"),
    ] {
        let found = asked.iter().any(|line| line.starts_with(wanted) && line.contains(agent));
        assert!(found, "no {agent} got {wanted}: {asked:#?}");
    }
    let plan = job.world.record_file("plan.json");
    assert!(plan.contains(&format!("https://{MIRROR}:{port}/maven")) && !plan.contains(job.world.secret()));
    job.nothing_left();
}
