//! The tables of the `Open_vSwitch` database that a manager of switches needs
//! (ovs-vswitchd.conf.db(5); schema 8.3.1, Open vSwitch 3.1).
//!
//! Columns that the switch writes say so. A column that an older server does
//! not have is read as its default; to write it there is an `unknown column`.

use std::collections::{BTreeMap, BTreeSet};

use crate::column::Ref;
use crate::tables;

/// A map of strings, as `external_ids` and `other_config` are.
pub type Strings = BTreeMap<String, String>;

tables! {
    /// The switch as a whole. The table has one row, and is a root.
    pub struct OpenVswitch = "Open_vSwitch" {
        /// All bridges. What is not in here vanishes.
        BRIDGES bridges: BTreeSet<Ref<Bridge>>,
        /// Where the database server listens for, or connects to, managers.
        MANAGER_OPTIONS manager_options: BTreeSet<Ref<Manager>>,
        /// Certificates of the database server.
        SSL ssl: Option<Ref<Ssl>>,
        /// Settings of the switch, such as `userspace-tso-enable`.
        OTHER_CONFIG other_config: Strings,
        /// Marks; the switch ignores them.
        EXTERNAL_IDS external_ids: Strings,
        /// Raised by whoever changes something; see [`crate::Client::apply`].
        NEXT_CFG next_cfg: i64,
        /// The `next_cfg` that the switch has applied. Written by the switch.
        CUR_CFG cur_cfg: i64,
        /// Memory, load, processes and so on. Written by the switch.
        STATISTICS statistics: Strings,
        /// The version of the switch, such as `3.1.0`. Written at start.
        OVS_VERSION ovs_version: Option<String>,
        /// The version of the schema, such as `8.3.1`. Written at start.
        DB_VERSION db_version: Option<String>,
        /// The kind of system, such as `debian`. Written at start.
        SYSTEM_TYPE system_type: Option<String>,
        /// The version of the system, such as `12`. Written at start.
        SYSTEM_VERSION system_version: Option<String>,
        /// The values that `Bridge.datapath_type` may have here. Written by the switch.
        DATAPATH_TYPES datapath_types: BTreeSet<String>,
        /// The values that `Interface.type` may have here. Written by the switch.
        IFACE_TYPES iface_types: BTreeSet<String>,
        /// Whether DPDK is up. Written by the switch.
        DPDK_INITIALIZED dpdk_initialized: bool,
        /// The version of DPDK. Written by the switch.
        DPDK_VERSION dpdk_version: Option<String>,
    }

    /// A bridge. Its name is unique and cannot change.
    pub struct Bridge = "Bridge" {
        /// The name, and that of its local interface: at most 15 bytes where the
        /// kernel is to know it.
        NAME name: String,
        /// `system`, `netdev`, or empty for the first.
        DATAPATH_TYPE datapath_type: String,
        /// What the datapath calls its version. Written by the switch.
        DATAPATH_VERSION datapath_version: String,
        /// 16 hexadecimal digits, once the bridge is there. Written by the switch.
        DATAPATH_ID datapath_id: Option<String>,
        /// Whether the spanning tree protocol runs. Applied only when `next_cfg` changes.
        STP_ENABLE stp_enable: bool,
        /// Whether the rapid spanning tree protocol runs. Applied only when `next_cfg` changes.
        RSTP_ENABLE rstp_enable: bool,
        /// Whether multicast goes only where it was asked for.
        MCAST_SNOOPING_ENABLE mcast_snooping_enable: bool,
        /// The ports. A port that is in no bridge vanishes.
        PORTS ports: BTreeSet<Ref<Port>>,
        /// The mirrors. A mirror that is in no bridge vanishes.
        MIRRORS mirrors: BTreeSet<Ref<Mirror>>,
        /// Where NetFlow records go.
        NETFLOW netflow: Option<Ref<NetFlow>>,
        /// Where sFlow samples go.
        SFLOW sflow: Option<Ref<Sflow>>,
        /// Where IPFIX samples of the whole bridge go.
        IPFIX ipfix: Option<Ref<Ipfix>>,
        /// The OpenFlow controllers.
        CONTROLLER controller: BTreeSet<Ref<Controller>>,
        /// The OpenFlow versions spoken: `OpenFlow10` to `OpenFlow15`.
        PROTOCOLS protocols: BTreeSet<String>,
        /// `standalone` or `secure`: what to do without a controller. Set it:
        /// the default may change.
        FAIL_MODE fail_mode: Option<String>,
        /// What the spanning tree says. Written by the switch.
        STATUS status: Strings,
        /// What the rapid spanning tree says. Written by the switch.
        RSTP_STATUS rstp_status: Strings,
        /// Settings, such as `hwaddr` and `forward-bpdu`.
        OTHER_CONFIG other_config: Strings,
        /// Marks; the switch ignores them.
        EXTERNAL_IDS external_ids: Strings,
        /// VLANs on which nothing is learned, 0 to 4095.
        FLOOD_VLANS flood_vlans: BTreeSet<i64>,
    }

    /// A port: one interface, or several that are bonded. Its name is unique
    /// and cannot change.
    pub struct Port = "Port" {
        /// The name.
        NAME name: String,
        /// The interfaces, one at least.
        INTERFACES interfaces: BTreeSet<Ref<Interface>>,
        /// The VLANs that pass, 0 to 4095; empty for all. Applied only when
        /// `next_cfg` changes.
        TRUNKS trunks: BTreeSet<i64>,
        /// The customer VLANs of a `dot1q-tunnel`, 0 to 4095; empty for all.
        CVLANS cvlans: BTreeSet<i64>,
        /// The VLAN of an access port, or the native one, 0 to 4095.
        TAG tag: Option<i64>,
        /// `access`, `trunk`, `native-tagged`, `native-untagged` or
        /// `dot1q-tunnel`. Applied only when `next_cfg` changes.
        VLAN_MODE vlan_mode: Option<String>,
        /// The queues. A QoS that no port has stays, and must be deleted.
        QOS qos: Option<Ref<Qos>>,
        /// The hardware address of a bridge's local port; set it on `Interface` instead.
        MAC mac: Option<String>,
        /// `active-backup`, `balance-slb` or `balance-tcp`.
        BOND_MODE bond_mode: Option<String>,
        /// `active`, `passive` or `off`.
        LACP lacp: Option<String>,
        /// How long a link of a bond must be up to be used, in milliseconds.
        BOND_UPDELAY bond_updelay: i64,
        /// How long a link of a bond must be down to be given up, in milliseconds.
        BOND_DOWNDELAY bond_downdelay: i64,
        /// The hardware address of the active link of a bond. Written by the switch.
        BOND_ACTIVE_SLAVE bond_active_slave: Option<String>,
        /// Whether to make a local interface with the name of the bond.
        BOND_FAKE_IFACE bond_fake_iface: bool,
        /// Whether the port stands for a bridge of one VLAN.
        FAKE_BRIDGE fake_bridge: bool,
        /// What the spanning tree says. Written by the switch.
        STATUS status: Strings,
        /// What the rapid spanning tree says. Written by the switch.
        RSTP_STATUS rstp_status: Strings,
        /// What the rapid spanning tree counts. Written by the switch.
        RSTP_STATISTICS rstp_statistics: BTreeMap<String, i64>,
        /// What the spanning tree counts. Written by the switch.
        STATISTICS statistics: BTreeMap<String, i64>,
        /// Whether nothing passes between this and other protected ports.
        PROTECTED protected: bool,
        /// Settings, such as `stp-path-cost` and `bond-primary`.
        OTHER_CONFIG other_config: Strings,
        /// Marks; the switch ignores them.
        EXTERNAL_IDS external_ids: Strings,
    }

    /// An interface: a device, a tunnel, or one end of a patch. Its name is
    /// unique and cannot change.
    pub struct Interface = "Interface" {
        /// The name; that of the device, if it is one.
        NAME name: String,
        /// `system` or empty for a device of the kernel, `internal`, `tap`,
        /// `patch`, `vxlan`, `geneve`, `gre` and others.
        TYPE kind: String = "type",
        /// Settings of its type, such as `peer` and `remote_ip`.
        OPTIONS options: Strings,
        /// What may come in, in kilobits a second; 0 for all.
        INGRESS_POLICING_RATE ingress_policing_rate: i64,
        /// How much more at once, in kilobits.
        INGRESS_POLICING_BURST ingress_policing_burst: i64,
        /// What may come in, in thousands of packets a second; 0 for all.
        INGRESS_POLICING_KPKTS_RATE ingress_policing_kpkts_rate: i64,
        /// How much more at once, in thousands of packets.
        INGRESS_POLICING_KPKTS_BURST ingress_policing_kpkts_burst: i64,
        /// The hardware address it has. Written by the switch.
        MAC_IN_USE mac_in_use: Option<String>,
        /// The hardware address it is to have.
        MAC mac: Option<String>,
        /// The kernel's number of the device; 0 after the device vanished.
        /// Written by the switch.
        IFINDEX ifindex: Option<i64>,
        /// Marks; the switch ignores most of them.
        EXTERNAL_IDS external_ids: Strings,
        /// The OpenFlow port number: 65534 for a bridge's own, -1 if the switch
        /// could not take the interface. Written by the switch.
        OFPORT ofport: Option<i64>,
        /// The OpenFlow port number wished for, 1 to 65279. Set it when the
        /// interface is inserted.
        OFPORT_REQUEST ofport_request: Option<i64>,
        /// Settings of bidirectional forwarding detection, such as `enable`.
        BFD bfd: Strings,
        /// What that detection says. Written by the switch.
        BFD_STATUS bfd_status: Strings,
        /// The identifier of this end in connectivity fault management.
        CFM_MPID cfm_mpid: Option<i64>,
        /// Whether connectivity fault management sees a fault. Written by the switch.
        CFM_FAULT cfm_fault: Option<bool>,
        /// Whether LACP has a partner here. Written by the switch.
        LACP_CURRENT lacp_current: Option<bool>,
        /// Settings of LLDP, such as `enable`.
        LLDP lldp: Strings,
        /// Further settings.
        OTHER_CONFIG other_config: Strings,
        /// Packets and bytes, every 5 s at most. Written by the switch.
        STATISTICS statistics: BTreeMap<String, i64>,
        /// The driver and so on. Written by the switch.
        STATUS status: Strings,
        /// `up` or `down`. Written by the switch.
        ADMIN_STATE admin_state: Option<String>,
        /// `up` or `down`. Written by the switch.
        LINK_STATE link_state: Option<String>,
        /// How often the link went down. Written by the switch.
        LINK_RESETS link_resets: Option<i64>,
        /// The speed, in bits a second. Written by the switch.
        LINK_SPEED link_speed: Option<i64>,
        /// `half` or `full`. Written by the switch.
        DUPLEX duplex: Option<String>,
        /// The largest payload of a frame, in bytes. Written by the switch.
        MTU mtu: Option<i64>,
        /// The largest payload wished for, in bytes.
        MTU_REQUEST mtu_request: Option<i64>,
        /// What went wrong, if something did. Written by the switch.
        ERROR error: Option<String>,
    }

    /// A copy of some packets to another port.
    pub struct Mirror = "Mirror" {
        /// The name.
        NAME name: String,
        /// Whether every packet is chosen.
        SELECT_ALL select_all: bool,
        /// Ports whose incoming packets are chosen. Ports that go, go from here.
        SELECT_SRC_PORT select_src_port: BTreeSet<Ref<Port>>,
        /// Ports whose outgoing packets are chosen. Ports that go, go from here.
        SELECT_DST_PORT select_dst_port: BTreeSet<Ref<Port>>,
        /// VLANs on which packets are chosen, 0 to 4095; empty for all.
        SELECT_VLAN select_vlan: BTreeSet<i64>,
        /// The port that gets the copies, and nothing else.
        OUTPUT_PORT output_port: Option<Ref<Port>>,
        /// The VLAN that gets the copies, 1 to 4095.
        OUTPUT_VLAN output_vlan: Option<i64>,
        /// How much of a packet is copied, 14 to 65535 bytes; all if unset.
        SNAPLEN snaplen: Option<i64>,
        /// `tx_packets` and `tx_bytes` mirrored. Written by the switch.
        STATISTICS statistics: BTreeMap<String, i64>,
        /// Marks; the switch ignores them.
        EXTERNAL_IDS external_ids: Strings,
    }

    /// How a port shares its rate. A root: it stays without a port, and must be
    /// deleted, after the port's `qos` is cleared.
    pub struct Qos = "QoS" {
        /// `linux-htb`, `linux-hfsc`, `egress-policer` and others.
        TYPE kind: String = "type",
        /// The queues by number, 0 to 4294967295.
        QUEUES queues: BTreeMap<i64, Ref<Queue>>,
        /// Settings of its type, such as `max-rate` in bits a second.
        OTHER_CONFIG other_config: Strings,
        /// Marks; the switch ignores them.
        EXTERNAL_IDS external_ids: Strings,
    }

    /// A queue of a QoS. A root: it stays without one, and must be deleted.
    pub struct Queue = "Queue" {
        /// The DSCP to write into packets, 0 to 63.
        DSCP dscp: Option<i64>,
        /// Settings, such as `min-rate` and `max-rate` in bits a second.
        OTHER_CONFIG other_config: Strings,
        /// Marks; the switch ignores them.
        EXTERNAL_IDS external_ids: Strings,
    }

    /// An OpenFlow controller of a bridge.
    pub struct Controller = "Controller" {
        /// `primary` or `service`.
        TYPE kind: Option<String> = "type",
        /// Where it is, such as `tcp:10.0.0.1:6653`.
        TARGET target: String,
        /// The longest pause between attempts to connect, in milliseconds, 1000 at least.
        MAX_BACKOFF max_backoff: Option<i64>,
        /// The silence before a probe, in milliseconds; 0 for no probes.
        INACTIVITY_PROBE inactivity_probe: Option<i64>,
        /// `in-band` or `out-of-band`.
        CONNECTION_MODE connection_mode: Option<String>,
        /// The address of the local interface, in-band.
        LOCAL_IP local_ip: Option<String>,
        /// The netmask of the local interface, in-band.
        LOCAL_NETMASK local_netmask: Option<String>,
        /// The gateway of the local interface, in-band.
        LOCAL_GATEWAY local_gateway: Option<String>,
        /// Whether it is sent more than it asks for.
        ENABLE_ASYNC_MESSAGES enable_async_messages: Option<bool>,
        /// How many packets may wait for it, 1 to 512.
        CONTROLLER_QUEUE_SIZE controller_queue_size: Option<i64>,
        /// How many packets a second it may be sent, 100 at least.
        CONTROLLER_RATE_LIMIT controller_rate_limit: Option<i64>,
        /// How many packets more at once, 25 at least.
        CONTROLLER_BURST_LIMIT controller_burst_limit: Option<i64>,
        /// Further settings, such as `dscp`.
        OTHER_CONFIG other_config: Strings,
        /// Marks; the switch ignores them.
        EXTERNAL_IDS external_ids: Strings,
        /// Whether it is connected. Lags by some seconds. Written by the switch.
        IS_CONNECTED is_connected: bool,
        /// `other`, `master` or `slave`. Written by the switch.
        ROLE role: Option<String>,
        /// The state of the connection. Written by the switch.
        STATUS status: Strings,
    }

    /// Where the database server listens or connects to. Its target is unique.
    pub struct Manager = "Manager" {
        /// Such as `ptcp:6640:127.0.0.1` or `ssl:10.0.0.1:6640`.
        TARGET target: String,
        /// The longest pause between attempts to connect, in milliseconds, 1000 at least.
        MAX_BACKOFF max_backoff: Option<i64>,
        /// The silence before a probe, in milliseconds; 0 for no probes.
        INACTIVITY_PROBE inactivity_probe: Option<i64>,
        /// `in-band` or `out-of-band`.
        CONNECTION_MODE connection_mode: Option<String>,
        /// Further settings, such as `dscp`.
        OTHER_CONFIG other_config: Strings,
        /// Marks; the server ignores them.
        EXTERNAL_IDS external_ids: Strings,
        /// Whether anybody is connected. Written by the server.
        IS_CONNECTED is_connected: bool,
        /// The state of the connection. Written by the server.
        STATUS status: Strings,
    }

    /// Where NetFlow records of a bridge go.
    pub struct NetFlow = "NetFlow" {
        /// The collectors, `ADDRESS:PORT`; one at least.
        TARGETS targets: BTreeSet<String>,
        /// The engine type in the records, 0 to 255.
        ENGINE_TYPE engine_type: Option<i64>,
        /// The engine id in the records, 0 to 255.
        ENGINE_ID engine_id: Option<i64>,
        /// Whether the engine id goes into the interface numbers.
        ADD_ID_TO_INTERFACE add_id_to_interface: bool,
        /// How often a flow that lives is reported, in seconds; 0 for the
        /// default, -1 for never.
        ACTIVE_TIMEOUT active_timeout: i64,
        /// Marks; the switch ignores them.
        EXTERNAL_IDS external_ids: Strings,
    }

    /// Where sFlow samples of a bridge go.
    pub struct Sflow = "sFlow" {
        /// The collectors, `ADDRESS:PORT`; one at least.
        TARGETS targets: BTreeSet<String>,
        /// One packet in so many is sampled.
        SAMPLING sampling: Option<i64>,
        /// How often counters are sent, in seconds.
        POLLING polling: Option<i64>,
        /// How much of a packet is sent, in bytes.
        HEADER header: Option<i64>,
        /// The device or address that stands for this switch.
        AGENT agent: Option<String>,
        /// Marks; the switch ignores them.
        EXTERNAL_IDS external_ids: Strings,
    }

    /// Where IPFIX samples go, of a bridge or of a collector set.
    pub struct Ipfix = "IPFIX" {
        /// The collectors, `ADDRESS:PORT`.
        TARGETS targets: BTreeSet<String>,
        /// One packet in so many is sampled, 1 to 4294967295.
        SAMPLING sampling: Option<i64>,
        /// The observation domain, 0 to 4294967295.
        OBS_DOMAIN_ID obs_domain_id: Option<i64>,
        /// The observation point, 0 to 4294967295.
        OBS_POINT_ID obs_point_id: Option<i64>,
        /// How long a flow is kept before it is sent, in seconds, up to 4200.
        CACHE_ACTIVE_TIMEOUT cache_active_timeout: Option<i64>,
        /// How many flows are kept.
        CACHE_MAX_FLOWS cache_max_flows: Option<i64>,
        /// Further settings, such as `enable-tunnel-sampling`.
        OTHER_CONFIG other_config: Strings,
        /// Marks; the switch ignores them.
        EXTERNAL_IDS external_ids: Strings,
    }

    /// The collectors of packets that OpenFlow `sample` actions choose. A root:
    /// it must be deleted. The pair of `id` and `bridge` is unique.
    pub struct FlowSampleCollectorSet = "Flow_Sample_Collector_Set" {
        /// The number that the action names, 0 to 4294967295.
        ID id: i64,
        /// The bridge; its row must be there.
        BRIDGE bridge: Ref<Bridge>,
        /// Where the samples go.
        IPFIX ipfix: Option<Ref<Ipfix>>,
        /// Marks; the switch ignores them.
        EXTERNAL_IDS external_ids: Strings,
    }

    /// Certificates of the database server. The table has one row at most.
    pub struct Ssl = "SSL" {
        /// The file of the private key.
        PRIVATE_KEY private_key: String,
        /// The file of the certificate.
        CERTIFICATE certificate: String,
        /// The file of the authority.
        CA_CERT ca_cert: String,
        /// Whether to take the authority from the first peer and keep it.
        BOOTSTRAP_CA_CERT bootstrap_ca_cert: bool,
        /// Marks; the server ignores them.
        EXTERNAL_IDS external_ids: Strings,
    }
}
