"""Broker keys of identity, network, storage mode and security. Kafka's names, Kafka's defaults
except where a comment says why not."""

from __future__ import annotations

from kbroker.base.config_types import (
    BOOLEAN,
    INT,
    INT_MAX,
    LIST,
    LONG,
    LONG_MAX,
    PASSWORD,
    STRING,
    Fallback,
    Importance,
    UpdateMode,
    at_least,
    between,
    declare,
    list_of,
    one_of,
)

HIGH, LOW = Importance.HIGH, Importance.LOW
PER_BROKER, CLUSTER_WIDE = UpdateMode.PER_BROKER, UpdateMode.CLUSTER_WIDE


# A table: one key, one paragraph.
# fmt: off
class ServerKeys:
    """Who this broker is and how clients reach it."""

    node_id = declare(
        "node.id", INT, 1, at_least(0), importance=HIGH, fallbacks=(Fallback("broker.id"),),
        doc="The id of this broker in the cluster.",
    )
    broker_id = declare(
        "broker.id", INT, None, at_least(-1), importance=HIGH,
        doc="The older name of node.id.",
    )
    broker_rack = declare(
        "broker.rack", STRING, None, doc="The rack of this broker, told to clients in Metadata."
    )
    # Loopback instead of Kafka's every interface: safe by default.
    listeners = declare(
        "listeners", LIST, ("PLAINTEXT://127.0.0.1:9092",), importance=HIGH,
        doc="Addresses to listen on, NAME://host:port. An empty host is every IPv4 address "
        "of the machine, [::] every IPv6 one, port 0 any free port.",
    )
    advertised_listeners = declare(
        "advertised.listeners", LIST, None, importance=HIGH,
        doc="Addresses told to clients, by listener name. Unset: those the broker listens on.",
    )
    listener_security_protocol_map = declare(
        "listener.security.protocol.map", STRING,
        "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
        doc="Listener names to security protocols, NAME:PROTOCOL,...",
    )
    allow_insecure_listener = declare(
        "allow.insecure.listener", BOOLEAN, False, importance=HIGH,
        doc="Permits a PLAINTEXT listener on an address that is not loopback: anyone who reaches "
        "it can read, write and delete everything.",
    )
    metrics_listener = declare(
        "metrics.listener", STRING, "", importance=HIGH,
        doc="host:port of the Prometheus /metrics page; port 0 is any free port, empty is off.",
    )
    kcore_storage = declare(
        "kcore.storage", STRING, "disk", one_of("disk", "memory"), importance=HIGH,
        doc="Where everything is kept. memory: nothing is written to disk and everything is gone "
        "when the broker stops.",
    )
    # As in Kafka no limit by default: half of RLIMIT_NOFILE is one (`Server`).
    max_connections = declare(
        "max.connections", INT, INT_MAX, at_least(1), mode=CLUSTER_WIDE,
        doc="Most connections open at once; never more than half of the open files allowed.",
    )
    max_connections_per_ip = declare(
        "max.connections.per.ip", INT, INT_MAX, at_least(1), mode=CLUSTER_WIDE,
        doc="Most connections open at once from one address.",
    )
    connections_max_idle_ms = declare(
        "connections.max.idle.ms", LONG, 600_000, at_least(-1),
        doc="A connection without a request for this long is closed; -1 is never.",
    )
    socket_request_max_bytes = declare(
        "socket.request.max.bytes", INT, 104_857_600, at_least(1),
        doc="Largest request frame; a larger one closes its connection.",
    )
    socket_send_buffer_bytes = declare(
        "socket.send.buffer.bytes", INT, 102_400, at_least(-1), acts=False,
        doc="SO_SNDBUF of client sockets; -1 leaves the system's choice.",
    )
    socket_receive_buffer_bytes = declare(
        "socket.receive.buffer.bytes", INT, 102_400, at_least(-1), acts=False,
        doc="SO_RCVBUF of client sockets; -1 leaves the system's choice.",
    )
    socket_listen_backlog_size = declare(
        "socket.listen.backlog.size", INT, 50, at_least(1), acts=False,
        doc="Connections the system may hold before they are accepted.",
    )
    max_request_partition_size_limit = declare(
        "max.request.partition.size.limit", INT, 2_000, at_least(1),
        doc="Most partitions in one page of DescribeTopicPartitions.",
    )
    request_timeout_ms = declare(
        "request.timeout.ms", INT, 30_000, at_least(0), acts=False,
        doc="How long this broker waits for another broker's answer.",
    )
    queued_max_requests = declare(
        "queued.max.requests", INT, 500, at_least(1), acts=False,
        doc="Kafka's queue between its threads; one loop has no such queue.",
    )
    num_network_threads = declare(
        "num.network.threads", INT, 3, at_least(1), mode=CLUSTER_WIDE, acts=False,
        doc="Kafka's socket threads; a broker process here is one loop.",
    )
    num_io_threads = declare(
        "num.io.threads", INT, 8, at_least(1), mode=CLUSTER_WIDE, acts=False,
        doc="Kafka's request threads; a broker process here is one loop.",
    )
    background_threads = declare(
        "background.threads", INT, 10, at_least(1), mode=CLUSTER_WIDE, acts=False,
        doc="Kafka's threads for background work.",
    )
    auto_include_jmx_reporter = declare(
        "auto.include.jmx.reporter", BOOLEAN, True, importance=LOW, acts=False,
        doc="Kafka's JMX; see metrics.listener.",
    )


class ClusterKeys:
    """Keys of a KRaft quorum and of replication: known so that a Kafka file loads."""

    process_roles = declare(
        "process.roles", LIST, (), list_of("broker", "controller", empty=True), acts=False,
        doc="KRaft roles. One process is all of them here.",
    )
    controller_quorum_voters = declare(
        "controller.quorum.voters", LIST, (), acts=False, doc="KRaft voters, id@host:port,..."
    )
    controller_quorum_bootstrap_servers = declare(
        "controller.quorum.bootstrap.servers", LIST, (), acts=False,
        doc="KRaft bootstrap addresses.",
    )
    controller_listener_names = declare(
        "controller.listener.names", LIST, (),
        doc="Names in listeners that belong to KRaft controllers: this broker leaves them alone.",
    )
    inter_broker_listener_name = declare(
        "inter.broker.listener.name", STRING, None, acts=False,
        doc="The listener that brokers use among themselves.",
    )
    num_replica_fetchers = declare(
        "num.replica.fetchers", INT, 1, at_least(1), mode=CLUSTER_WIDE, acts=False,
        doc="Connections to each leader a follower fetches over.",
    )
    leader_replication_throttled_rate = declare(
        "leader.replication.throttled.rate", LONG, LONG_MAX, at_least(0), mode=CLUSTER_WIDE,
        acts=False, doc="Most bytes a second that leaders send to throttled followers.",
    )
    follower_replication_throttled_rate = declare(
        "follower.replication.throttled.rate", LONG, LONG_MAX, at_least(0), mode=CLUSTER_WIDE,
        acts=False, doc="Most bytes a second that throttled followers fetch.",
    )
    replica_alter_log_dirs_io_max_bytes_per_second = declare(
        "replica.alter.log.dirs.io.max.bytes.per.second", LONG, LONG_MAX, at_least(0),
        mode=CLUSTER_WIDE, acts=False,
        doc="Most bytes a second that move between log directories.",
    )
    replica_lag_time_max_ms = declare(
        "replica.lag.time.max.ms", LONG, 30_000, at_least(1), acts=False,
        doc="A follower behind for this long leaves the ISR.",
    )
    replica_fetch_min_bytes = declare(
        "replica.fetch.min.bytes", INT, 1, at_least(0), acts=False,
        doc="Bytes a follower's fetch waits for.",
    )
    replica_fetch_max_bytes = declare(
        "replica.fetch.max.bytes", INT, 1_048_576, at_least(0), acts=False,
        doc="Bytes of one partition in a follower's fetch.",
    )
    replica_fetch_response_max_bytes = declare(
        "replica.fetch.response.max.bytes", INT, 10_485_760, at_least(0), acts=False,
        doc="Bytes of a whole answer to a follower.",
    )
    replica_fetch_wait_max_ms = declare(
        "replica.fetch.wait.max.ms", INT, 500, at_least(0), acts=False,
        doc="Longest wait of a follower's fetch.",
    )
    replica_fetch_backoff_ms = declare(
        "replica.fetch.backoff.ms", INT, 1_000, at_least(0), acts=False,
        doc="Pause of a follower after an error.",
    )
    replica_high_watermark_checkpoint_interval_ms = declare(
        "replica.high.watermark.checkpoint.interval.ms", LONG, 5_000, at_least(1), acts=False,
        doc="How often high watermarks are written to disk.",
    )
    replica_selector_class = declare(
        "replica.selector.class", STRING, None, acts=False,
        doc="Which replica a consumer of another rack reads from.",
    )
    auto_leader_rebalance_enable = declare(
        "auto.leader.rebalance.enable", BOOLEAN, True, acts=False,
        doc="Moves leadership back to preferred replicas in the background.",
    )
    leader_imbalance_per_broker_percentage = declare(
        "leader.imbalance.per.broker.percentage", INT, 10, at_least(0), acts=False,
        doc="Share of misplaced leaders that starts a rebalance.",
    )
    leader_imbalance_check_interval_seconds = declare(
        "leader.imbalance.check.interval.seconds", LONG, 300, at_least(1), acts=False,
        doc="How often leader imbalance is checked.",
    )
    controlled_shutdown_enable = declare(
        "controlled.shutdown.enable", BOOLEAN, True, acts=False,
        doc="Moves leaderships away before a stop.",
    )
    broker_heartbeat_interval_ms = declare(
        "broker.heartbeat.interval.ms", INT, 2_000, at_least(1), acts=False,
        doc="How often a broker renews its lease.",
    )
    broker_session_timeout_ms = declare(
        "broker.session.timeout.ms", INT, 9_000, at_least(1), acts=False,
        doc="A broker silent for this long counts as dead.",
    )


class SecurityKeys:
    """Authentication, encryption, authorization, quotas: known and checked, without effect yet."""

    sasl_enabled_mechanisms = declare(
        "sasl.enabled.mechanisms", LIST, ("GSSAPI",), mode=PER_BROKER, acts=False,
        doc="SASL mechanisms offered to clients.",
    )
    sasl_mechanism_inter_broker_protocol = declare(
        "sasl.mechanism.inter.broker.protocol", STRING, "GSSAPI", mode=PER_BROKER, acts=False,
        doc="SASL mechanism among brokers.",
    )
    sasl_jaas_config = declare(
        "sasl.jaas.config", PASSWORD, None, mode=PER_BROKER, acts=False,
        doc="Users and passwords in JAAS form.",
    )
    ssl_client_auth = declare(
        "ssl.client.auth", STRING, "none", one_of("none", "requested", "required"),
        mode=PER_BROKER, acts=False, doc="Whether clients must show a certificate.",
    )
    ssl_keystore_location = declare(
        "ssl.keystore.location", STRING, None, mode=PER_BROKER, acts=False,
        doc="File of the broker's key.",
    )
    ssl_keystore_password = declare(
        "ssl.keystore.password", PASSWORD, None, mode=PER_BROKER, acts=False,
        doc="Password of the key file.",
    )
    ssl_key_password = declare(
        "ssl.key.password", PASSWORD, None, mode=PER_BROKER, acts=False,
        doc="Password of the key in the key file.",
    )
    ssl_truststore_location = declare(
        "ssl.truststore.location", STRING, None, mode=PER_BROKER, acts=False,
        doc="File of the certificates to trust.",
    )
    ssl_truststore_password = declare(
        "ssl.truststore.password", PASSWORD, None, mode=PER_BROKER, acts=False,
        doc="Password of the trust file.",
    )
    connections_max_reauth_ms = declare(
        "connections.max.reauth.ms", LONG, 0, at_least(0), acts=False,
        doc="Longest life of a SASL session; 0 is no limit.",
    )
    connection_failed_authentication_delay_ms = declare(
        "connection.failed.authentication.delay.ms", INT, 100, at_least(0), acts=False,
        doc="Pause before a connection that failed to authenticate is closed.",
    )
    authorizer_class_name = declare(
        "authorizer.class.name", STRING, "", acts=False, doc="The authorizer; empty is none."
    )
    super_users = declare(
        "super.users", STRING, "", acts=False, doc="Principals that may do everything, by ';'."
    )
    allow_everyone_if_no_acl_found = declare(
        "allow.everyone.if.no.acl.found", BOOLEAN, False, acts=False,
        doc="What holds for a resource without an ACL.",
    )
    quota_window_num = declare(
        "quota.window.num", INT, 11, at_least(1), acts=False, doc="Samples kept for quotas."
    )
    quota_window_size_seconds = declare(
        "quota.window.size.seconds", INT, 1, between(1, INT_MAX), acts=False,
        doc="Length of a quota sample.",
    )
