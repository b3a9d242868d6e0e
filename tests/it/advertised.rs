//! `--advertise-client-urls`: who follows the list of members stays with the proxies.

use std::process::Command;

use crate::common::client::Client;
use crate::common::config;
use crate::common::etcd::{Etcd, free_ports};
use crate::common::pb::etcdserverpb::{Member, MemberListRequest};
use crate::common::proxy::Setup;
use crate::common::tools::Version;

async fn members(client: &Client) -> Vec<Member> {
    let request = MemberListRequest { linearizable: true };
    let list = client.cluster().member_list(request).await;
    list.expect("a list").into_inner().members
}

fn etcdctl(version: Version, endpoint: &str, words: &[&str]) -> String {
    let output = Command::new(version.etcd().with_file_name("etcdctl"))
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={endpoint}"))
        .args(words)
        .output()
        .expect("etcdctl");
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_the_members_stays_with_the_proxies() {
    for version in Version::all() {
        let etcd = Etcd::start(version).await;
        let [port] = free_ports();
        let own = format!("http://127.0.0.1:{port}");
        let setup = || Setup::new(etcd.endpoint(), config::secrets());
        let proxy = setup()
            .listen(&[&own])
            .flag(format!("--advertise-client-urls={own}"))
            .start();
        let direct = members(&etcd.client().await).await;
        assert_eq!(direct[0].client_ur_ls, [etcd.endpoint()]);
        let expected: Vec<_> = direct
            .iter()
            .map(|member| Member {
                client_ur_ls: vec![own.clone()],
                ..member.clone()
            })
            .collect();
        assert_eq!(members(&proxy.client().await).await, expected, "{version:?}");
        let listed = etcdctl(version, &own, &["member", "list"]);
        assert!(listed.contains(&own) && !listed.contains(&etcd.endpoint()), "{listed}");
        // It asks for the members first, and then each of these. (3.4's names the URL as :authority, which is none.)
        let status = etcdctl(Version::V3_5, &own, &["endpoint", "status", "--cluster"]);
        assert_eq!(status.lines().count(), 1, "{status}");
        assert!(status.starts_with(&own), "{status}");
        // Without it the members are what they are.
        assert_eq!(members(&setup().start().client().await).await, direct, "{version:?}");
    }
}

#[tokio::test]
async fn what_no_client_could_take_is_refused() {
    for url in ["10.0.0.1:2379", "ftp://10.0.0.1:2379", "https://10.0.0.1"] {
        let setup = Setup::new("http://127.0.0.1:1", config::secrets());
        let (status, output) = setup.flag(format!("--advertise-client-urls={url}")).refused();
        assert!(!status.success(), "{url}");
        assert!(
            output.contains("--advertise-client-urls") && output.contains(url),
            "{output}"
        );
    }
}
