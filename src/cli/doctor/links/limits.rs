//! The limits of this machine: file descriptors and ports for outgoing connections.

use super::{
    super::{
        Checkup,
        causes::machine::{CONNTRACK_FULL, DESCRIPTORS_LOW, PORTS_FEW},
        finding::Finding,
        machine,
        report::Outcome,
    },
    health::diagnostics,
};

/// Fewer descriptors than this stop a site at about a thousand visitors.
const DESCRIPTORS_MIN: u64 = 4_096;
/// Linux has 28,232 ports for outgoing connections by default.
const PORTS_MIN: u32 = 20_000;

pub(in crate::cli::doctor) async fn check(checkup: &mut Checkup<'_>) -> Outcome {
    let of_server = match &checkup.direct {
        Some(peer) => diagnostics(peer, &checkup.inputs).await,
        None => None,
    };
    let of_server = of_server.and_then(|found| found["limits"]["max_descriptors"].as_u64());
    let Some(descriptors) = of_server else {
        return Outcome::Skipped("the server did not say its limits".to_owned());
    };
    let ports = machine::outgoing_ports();
    let mut findings = judge(descriptors, ports, checkup.inputs.public_address().is_some());
    let tracking =
        |name: &str| machine::number(&format!("/proc/sys/net/netfilter/nf_conntrack_{name}"));
    findings.extend(tracked(tracking("count"), tracking("max")));
    Outcome::of(findings, format!("the server may open {descriptors} files"))
}

/// What is too low. Ports matter for a proxy on this machine: it opens one for each client.
fn judge(descriptors: u64, ports: Option<u32>, has_proxy: bool) -> Vec<Finding> {
    let low = (descriptors < DESCRIPTORS_MIN).then(|| {
        DESCRIPTORS_LOW
            .found(format!("The server may open {descriptors} files."))
            .line("systemd unit, [Service]", "LimitNOFILE=1048576")
            .line("or supervisord.conf, [supervisord]", "minfds=1048576")
    });
    let few = ports.filter(|ports| has_proxy && *ports < PORTS_MIN).map(|ports| {
        PORTS_FEW
            .found(format!("This machine has {ports} ports for outgoing connections."))
            .line("/etc/sysctl.d/campanile.conf", "net.ipv4.ip_local_port_range = 1024 65535")
    });
    low.into_iter().chain(few).collect()
}

/// Connections that the firewall of this machine tracks, and how many it can.
fn tracked(count: Option<u64>, limit: Option<u64>) -> Option<Finding> {
    let (count, limit) = (count?, limit?);
    (limit / 5 * 4 <= count).then(|| {
        CONNTRACK_FULL
            .found(format!("The firewall of this machine tracks {count} of {limit} connections."))
            .line(
                "/etc/sysctl.d/campanile.conf",
                format!("net.netfilter.nf_conntrack_max = {}", limit * 4),
            )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_connections_that_is_almost_full_is_found() {
        for (count, limit, is_full) in [
            (Some(800), Some(1_000), true),
            (Some(799), Some(1_000), false),
            (None, Some(1), false),
            (Some(1), None, false),
        ] {
            assert_eq!(tracked(count, limit).is_some(), is_full, "{count:?} {limit:?}");
        }
    }

    #[test]
    fn low_limits_are_found() {
        for (descriptors, ports, has_proxy, expected) in [
            (4_096, Some(28_232), true, &[][..]),
            (4_095, Some(28_232), true, &["descriptors_low"]),
            (1_048_576, Some(19_999), true, &["ports_few"]),
            (1_048_576, Some(19_999), false, &[]),
            (1_048_576, None, true, &[]),
            (1_024, Some(1), true, &["descriptors_low", "ports_few"]),
        ] {
            let found = judge(descriptors, ports, has_proxy);
            let ids: Vec<_> = found.iter().map(|finding| finding.cause.id).collect();
            assert_eq!(ids, expected, "{descriptors} {ports:?} {has_proxy}");
        }
    }
}
