"""A learning switch on os-ken: the controller of a test. Speaks OpenFlow 1.3,
says `switch ID` for each switch that comes, and installs a flow for each pair of
stations that it has heard of. Its own port is its argument."""

import sys

from os_ken.lib import hub

hub.patch()

from os_ken import cfg
from os_ken.base import app_manager  # Before the controller: they import each other.
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib.packet import ethernet, packet
from os_ken.ofproto import ofproto_v1_3


class LearningSwitch(app_manager.OSKenApp):
    OFP_VERSIONS = [ofproto_v1_3.OFP_VERSION]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.ports = {}

    def add(self, switch, priority, match, port):
        parser, ofproto = switch.ofproto_parser, switch.ofproto
        actions = [parser.OFPActionOutput(port, ofproto.OFPCML_NO_BUFFER)]
        apply = parser.OFPInstructionActions(ofproto.OFPIT_APPLY_ACTIONS, actions)
        switch.send_msg(
            parser.OFPFlowMod(
                datapath=switch, priority=priority, match=match, instructions=[apply]
            )
        )

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def comes(self, event):
        switch = event.msg.datapath
        self.ports[switch.id] = {}
        match = switch.ofproto_parser.OFPMatch()
        self.add(switch, 0, match, switch.ofproto.OFPP_CONTROLLER)
        print(f"switch {switch.id:016x}", flush=True)

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def hears(self, event):
        message, switch = event.msg, event.msg.datapath
        parser, ofproto = switch.ofproto_parser, switch.ofproto
        frame = packet.Packet(message.data).get_protocol(ethernet.ethernet)
        come, ports = message.match["in_port"], self.ports[switch.id]
        ports[frame.src] = come
        port = ports.get(frame.dst, ofproto.OFPP_FLOOD)
        if frame.dst in ports:
            match = parser.OFPMatch(in_port=come, eth_src=frame.src, eth_dst=frame.dst)
            self.add(switch, 1, match, port)
        switch.send_msg(
            parser.OFPPacketOut(
                datapath=switch,
                buffer_id=ofproto.OFP_NO_BUFFER,
                in_port=come,
                actions=[parser.OFPActionOutput(port)],
                data=message.data,
            )
        )


cfg.CONF(args=[], project="os_ken", version="1")
cfg.CONF.set_override("ofp_listen_host", "127.0.0.1")
cfg.CONF.set_override("ofp_tcp_listen_port", int(sys.argv[1]))
app_manager.AppManager.run_apps(["__main__", "os_ken.controller.ofp_handler"])
