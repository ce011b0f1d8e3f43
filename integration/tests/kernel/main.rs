//! ovsns on the real kernel. Every test has a machine of its own (see the
//! `world` library) and asks the kernel, never ovsns, what came of a command.

mod adopted;
mod attach;
mod attach_modes;
mod bonds;
mod boot;
mod capture;
mod change;
mod city;
mod contract;
mod controllers;
mod crash;
mod crash_ovs;
mod cut;
mod doctor;
mod down;
mod drift;
mod examples;
mod exports;
mod faults;
mod files;
mod full_disk;
mod impair;
mod joined;
mod killed;
mod labs;
mod laid;
mod leases;
mod limits;
mod lives;
mod many;
mod mirrors;
mod names;
mod nat;
mod nodes;
mod offload;
mod own_ovs;
mod owners;
mod page;
mod parity;
mod qos;
mod refusals;
mod sdn;
mod seeing;
mod sequences;
mod serve;
mod serve_load;
mod serve_metrics;
mod serve_systemd;
mod serve_tcp;
mod settings;
mod soak;
mod spanning;
mod strangers;
mod switches;
mod tc;
mod tunnels;
mod undo;
mod vlans;
mod vm;
mod walls;
mod watching;
mod why;

use std::process::ExitCode;

use serde_json::Value;
use world::{World, tests};

/// n1 -- b.1.1 -- n2, as in the README.
const TWO_NODES: &str = "
name: two-nodes
switches:
  b.1.1: {}
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.1/24, fd00::1/64] } } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.2/24, fd00::2/64] } } }
links:
  - endpoints: [n1:eth0, b.1.1]
  - endpoints: [n2:eth0, b.1.1]
";

/// n1, n2 and n3 on s1; n1 also has a cable to n4.
const FOUR_NODES: &str = "
name: four
switches:
  s1: {}
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.1/24] }, eth1: { addresses: [10.0.9.1/30] } } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  n3: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }
  n4: { interfaces: { eth0: { addresses: [10.0.9.2/30] } } }
links:
  - endpoints: [n1:eth0, s1]
  - endpoints: [n2:eth0, s1]
  - endpoints: [n3:eth0, s1]
  - endpoints: [n1:eth1, n4:eth0]
";

/// The device of the switch that a device, by its other name, is a port of.
fn switch_of(world: &World, port: &str) -> String {
    let text = |value: Value| value.as_str().expect("a name").to_owned();
    match world.backend().as_str() {
        "ovs" => {
            let port = text(world.setting("", port, "ifname"));
            world.run(&format!("ovs-vsctl port-to-br {port}")).stdout.trim().to_owned()
        }
        _ => text(world.setting("", port, "master")),
    }
}

/// How many switches a lab has.
fn switches(world: &World, lab: &str) -> usize {
    let mark = format!("ovsns lab={lab} ");
    if world.backend() == "ovs" {
        let ids = world.run("ovs-vsctl --columns=external_ids list Bridge").stdout;
        return ids.matches(&mark).count();
    }
    let links = world.json("ip -d -j link show type bridge");
    let is_ours = |link: &&Value| link["ifalias"].as_str().is_some_and(|it| it.starts_with(&mark));
    links.as_array().map_or(0, |links| links.iter().filter(is_ours).count())
}

fn main() -> ExitCode {
    world::main(&[
        tests![adopted:
            they_are_left_as_they_were_found,
            one_is_adopted_by_command,
            they_are_found_by_their_marks,
            killed_at_every_request @ 300,
            what_cannot_be_adopted_is_refused,
            containers_are_asked_for,
        ],
        tests![capture:
            all_is_written_down,
            tags_are_put_back_and_packets_cut,
            what_is_lost_is_counted,
            a_device_that_goes_ends_alone,
            whoever_reads_sees_it_at_once_and_may_go,
            a_link_that_comes_up_again_is_heard,
            nobody_reads,
            on_a_terminal_it_is_a_line_a_packet,
            what_cannot_be_captured_is_refused,
        ],
        tests![capture over ovs: all_is_written_down],
        tests![laid:
            files_lie_over_the_machines,
            changed_files_are_mended,
            files_that_cannot_be_laid,
        ],
        tests![names: nodes_have_names, names_on_the_machine, a_sealed_node_keeps_its_network],
        tests![attach:
            into_a_bridge_and_home.vm(),
            into_our_open_vswitch_and_home,
            into_the_machines_open_vswitch_and_home.vm(),
            a_reboot_takes_the_nic_off_again,
            a_forgotten_nic_goes_home_from_a_bridge,
            a_forgotten_nic_goes_home_from_open_vswitch,
            what_changed_meanwhile_goes_home_too,
            what_changed_meanwhile_goes_home_from_open_vswitch,
            into_a_bridge_with_a_spanning_tree,
            into_an_open_vswitch_with_a_spanning_tree,
            the_way_to_the_ssh_client_has_to_lead_there,
            nodes_reach_the_network,
            it_has_to_be_confirmed,
            what_stands_in_the_way_is_refused,
            a_dry_run_says_all_and_does_nothing,
            killed_at_every_request_on_a_bridge @ 600,
            all_killed_at_every_request_on_a_bridge @ 600,
            killed_at_every_request_on_open_vswitch @ 900,
            all_killed_at_every_request_on_open_vswitch @ 900,
        ],
        tests![leases:
            a_node_has_a_lease,
            a_killed_keeper_is_missed,
            a_lease_is_renewed,
            a_lease_runs_out.long() @ 300,
            nobody_answers,
            a_lease_ends_with_its_interface,
            a_router_gives_addresses,
            no_router_answers,
            a_host_of_routers_on_a_bridge,
            a_host_of_routers_on_open_vswitch,
            dhclient_on_a_bridge,
            dhclient_on_open_vswitch,
            udhcpc_on_a_bridge,
            dhcpcd_on_open_vswitch,
            an_unconfirmed_host_has_its_client_again,
            dhcpcd_on_a_bridge_is_refused,
        ],
        tests![owners:
            systemd_networkd_on_a_bridge,
            systemd_networkd_on_open_vswitch,
            systemd_networkd_sees_to_an_unconfirmed_nic_again,
            systemd_networkd_that_does_not_listen,
            network_manager_on_open_vswitch,
            a_program_that_cannot_be_told_is_refused,
        ],
        tests![serve:
            it_is_the_same_as_without,
            a_message_a_line,
            a_program_with_nothing_but_python,
            not_everybody_may,
            elsewhere_nothing_of_others_is_touched,
            commands_in_nodes_end_with_who_asked,
            what_is_interrupted_goes_on,
            it_ends_as_it_should,
            bad_clients_harm_nobody,
        ],
        tests![serve_load:
            ten_thousand_requests @ 300,
        ],
        tests![serve_metrics: what_there_is_in_numbers],
        tests![serve_systemd:
            its_units_are_understood,
            it_takes_the_socket_that_it_is_given,
            it_tells_how_it_does,
        ],
        tests![boot:
            labs_are_there_from_boot_on.vm(),
            the_server_comes_and_goes_and_labs_stay,
            labs_go_with_their_units,
            edited_units_work,
        ],
        tests![serve_tcp:
            who_knows_the_token_from_afar,
            on_this_machine_without_tls,
            what_is_not_safe_is_refused,
        ],
        tests![page:
            links_go_down_and_up_by_a_click,
            links_beside_each_other,
            what_others_do_shows_by_itself,
            what_goes_is_said,
            a_server_goes_and_comes,
            what_is_wrong_is_shown,
            a_city_is_drawn,
            a_ping_and_a_terminal,
            terminals_have_an_end,
            strangers_get_nowhere,
            all_of_it_by_keyboard,
        ],
        tests![watching:
            what_happens_is_told,
            watch_prints_events,
            rates_are_told,
            packets_are_told,
            what_processes_say_is_told,
            who_does_not_read_is_told_that_he_missed,
            what_drifts_is_mended,
            what_cannot_be_mended_is_given_up,
            killed_in_a_change_and_started_again,
        ],
        tests![watching over ovs:
            what_happens_is_told,
            what_a_database_tells_is_told,
            what_drifts_is_mended,
        ],
        tests![why:
            nodes_and_links_that_are_broken,
            filters_and_queues_that_drop,
            bridges_that_keep_frames,
            ports_that_do_not_answer,
            all_is_well_where_it_is,
        ],
        tests![why over ovs:
            open_vswitches_that_keep_frames,
            nodes_and_links_that_are_broken,
            all_is_well_where_it_is,
        ],
        tests![seeing:
            rates_are_what_was_sent,
            a_way_is_told_from_the_way_back,
            a_terminal_is_given_back,
            links_come_and_go_while_they_are_watched,
            a_picture_shows_what_is_down,
        ],
        tests![seeing over ovs: rates_are_what_was_sent, a_picture_shows_what_is_down],
        tests![leases over ovs: a_node_has_a_lease, a_router_gives_addresses],
        tests![attach_modes:
            macvlans_of_one_nic_hear_each_other.vm(),
            private_macvlans_do_not_hear_each_other,
            vepa_macvlans_hear_what_the_switch_sends_back,
            a_passthru_macvlan_is_alone,
            what_stands_in_the_way_is_refused,
            into_a_node_and_home.vm(),
            a_forgotten_nic_goes_home_as_up_as_it_is,
            a_moved_nic_may_be_another_meanwhile,
            moving_has_to_be_confirmed,
            a_node_deleted_by_others_gives_its_nic_back,
            a_nic_outlives_its_node_with_every_state_file_lost,
            moving_is_killed_at_every_request @ 600,
            moving_and_its_watchdog_are_killed_at_every_request @ 600,
        ],
        tests![strangers:
            commands_inside_a_node_are_refused,
            a_link_moved_out_of_our_group_goes_too,
            a_link_with_an_address_of_others_stays.vm(),
            a_full_state_directory_keeps_no_lab,
            a_closed_pipe_is_no_failure,
            shaping_that_lost_its_port_goes.vm(),
        ],
        tests![contract:
            the_linux_bridge_keeps_every_promise.vm(),
            open_vswitch_keeps_every_promise.vm(),
        ],
        tests![examples: two_nodes.vm(), cable, router.vm(), routers, multicast.vm(), tree, ospf,
            multicast_routing, gre_between_nodes.vm(), ipsec_between_nodes.vm(), web],
        tests![files:
            addresses_are_given_and_stay,
            ranges_make_many_nodes,
            shapes_need_no_file,
            a_file_may_come_by_pipe,
            sysctls_and_routes_are_set.vm(),
        ],
        tests![change:
            a_second_up_writes_nothing.vm(),
            a_node_added_disturbs_nobody,
            an_address_changed_disturbs_nobody,
            a_link_removed_disturbs_nobody,
            a_link_moved_to_another_switch,
            addresses_that_change_places,
            settings_changed_disturb_nobody,
            a_node_made_again_is_the_same_to_its_neighbours,
            one_thing_at_a_time,
            what_others_changed_is_mended.vm(),
            a_dry_run_touches_nothing,
        ],
        tests![nodes:
            names_of_any_length,
            ip_netns_knows_the_nodes,
            exec_passes_the_exit_status,
            exec_passes_input_and_output,
            exec_passes_signals,
            exec_shows_the_devices_of_the_node,
            exec_lays_files_over_etc.vm(),
            exec_on_a_terminal_hears_ctrl_c,
            a_shell_on_a_terminal,
            the_first_ping_is_answered_at_once.vm(),
            ping_says_who_answers,
            no_process_is_started_or_stays,
        ],
        tests![offload:
            checksums_end_as_ethtool_leaves_them,
            checksums_are_seen_where_asked_for,
            checksums_that_cannot_be_set_are_told,
            a_dump_is_whole_or_an_error,
        ],
        tests![switches:
            settings_are_explicit.vm(),
            settings_of_the_file_are_set.vm(),
            stp_cuts_a_ring.vm() @ 300,
            a_loop_without_stp_is_refused,
            vlans_keep_apart.vm(),
            vlans_come_and_go.vm(),
            vlans_are_refused_with_the_reason,
            more_ports_than_a_bridge_has.alone() @ 300,
        ],
        tests![vlans:
            tags_pass_as_told_on_open_vswitch.vm(),
            tags_pass_as_told_on_a_linux_bridge.vm(),
            vlans_in_a_vlan.vm(),
            qinq_is_refused_where_one_tag_is_looked_at,
        ],
        tests![spanning:
            stp_cuts_a_ring_and_heals_it.vm(),
            rstp_cuts_a_ring_and_heals_it.vm(),
            one_protocol_gives_way_to_another @ 300,
            rstp_reaches_round_a_long_ring,
            a_bond_in_a_ring_is_refused,
        ],
        tests![parity:
            isolated_ports_are_apart_on_open_vswitch.vm(),
            isolated_ports_are_apart_on_a_linux_bridge,
            big_frames_pass_as_told_on_open_vswitch.vm(),
            big_frames_pass_as_told_on_a_linux_bridge,
            silent_stations_are_forgotten_on_open_vswitch.vm(),
            silent_stations_are_forgotten_on_a_linux_bridge,
            groups_reach_members_alone_on_open_vswitch.vm(),
            groups_reach_members_alone_on_a_linux_bridge.vm(),
        ],
        tests![joined:
            patches_join_switches.vm(),
            a_second_up_of_everything_writes_nothing.vm(),
        ],
        tests![bonds:
            one_cable_is_used_and_the_other_takes_over.vm(),
            the_same_cable_is_used_at_both_ends_without_lacp,
            stations_are_spread_over_cables,
            connections_are_spread_over_cables.vm(),
            a_bond_changes_and_is_mended,
            a_bond_that_needs_lacp_is_refused_without,
        ],
        tests![tc:
            mirrors_show_what_passes_a_port,
            mirrors_are_seen_as_they_were_made,
            mirrors_that_cannot_be_are_told,
            filters_of_others_stay_and_work,
            the_hooks_go_with_the_last_filter,
            a_filter_beside_ours_stays,
            what_comes_in_is_policed.vm(),
            tries_agree_with_tc.vm(),
            open_vswitch_polices_where_the_try_says_so.vm(),
        ],
        tests![sdn:
            flows_work_in_every_version_of_openflow,
            a_flow_that_the_switch_refuses_is_taken_back,
            a_flow_that_nobody_can_read_is_refused,
            flows_come_and_go_by_name.vm(),
            flows_are_put_back_after_a_restart,
            a_switch_keeps_the_flow_of_its_own,
            flows_name_ports_of_every_kind,
            a_trace_says_which_way_a_packet_takes.vm(),
            a_linux_bridge_has_no_flows,
        ],
        tests![
            city: a_city_comes_and_goes,
            more_neighbours_than_a_table_holds.alone(),
            larger_cities_come_and_go.long() @ 300,
        ],
        tests![doctor:
            it_tells_how_the_machines_open_vswitch_stands,
            it_knows_what_plans_are_refused_for,
            its_tries_agree_with_others.vm(),
            it_bears_every_answer,
            it_tells_what_this_machine_lacks,
            it_tells_what_was_left,
        ],
        tests![mirrors:
            a_bridge_copies_what_it_is_to.vm(),
            open_vswitch_copies_what_it_is_to.vm(),
            the_port_of_a_bridge_with_the_copies_gets_nothing_else,
            the_port_of_open_vswitch_with_the_copies_gets_nothing_else,
            a_mirror_of_all_follows_the_ports,
            what_others_did_to_a_mirror_is_mended,
            a_mirror_is_whole_or_not_there @ 300,
            a_mirror_is_mended_after_a_crash @ 300,
            a_bridge_polices_or_says_why_not.vm(),
            open_vswitch_polices_or_says_why_not.vm(),
        ],
        tests![controllers:
            a_controller_decides.vm(),
            flows_of_ours_live_beside_a_controllers,
            a_controller_drives_two_switches.vm(),
            a_switch_speaks_what_it_is_told_to,
            flows_lead_through_a_ring,
            a_controller_behind_its_switch,
            the_example,
            a_controller_on_os_ken.long(),
        ],
        tests![qos:
            shaping_holds_its_rate.vm(),
            shaping_holds_its_rate_with_segmentation_offload,
            flows_choose_queues.vm(),
            policing_holds_its_rate.vm(),
        ],
        tests![impair:
            rates_hold,
            others_at_the_queue,
            a_queue_outlives_the_switch,
            delay_and_loss_hold.vm(),
            the_example,
        ],
        tests![impair over ovs: rates_hold, delay_and_loss_hold.vm()],
        tests![cut: nodes_are_cut_and_healed, a_node_of_many_interfaces_is_cut],
        tests![cut over ovs: nodes_are_cut_and_healed],
        tests![nat:
            the_example.vm(),
            bridges_on_the_way_out,
            what_others_do_to_it_is_mended,
            what_is_in_the_way_is_told,
            others_who_drop_are_told_of,
            labs_with_ways_out_side_by_side,
            it_comes_and_goes_with_its_key,
            up_is_killed_at_every_request,
            down_is_killed_at_every_request,
        ],
        tests![nat over ovs: the_example, bridges_on_the_way_out],
        tests![sequences: nothing_foreign_is_touched.once() @ 1300, a_script_as_printed],
        tests![sequences over ovs: nothing_foreign_is_touched.once() @ 1300, a_script_as_printed],
        tests![down:
            links_go_down_and_come_up,
            a_file_holds_links_down,
            a_bond_goes_down_as_one,
        ],
        tests![down over ovs: links_go_down_and_come_up, a_file_holds_links_down],
        tests![many:
            changes_of_one_lab,
            one_lab_comes_and_goes,
            who_looks_is_not_troubled,
            many_labs_on_bridges,
            many_labs_on_open_vswitch,
            many_labs_on_our_own,
            sixty_labs_on_bridges.long() @ 300,
            sixty_labs_on_open_vswitch.long() @ 300,
            sixty_labs_on_our_own.long() @ 300,
        ],
        tests![drift: links, bridges, nodes, nics, open_vswitch],
        tests![settings:
            learned_addresses_and_counters_are_the_switchs,
            addresses_age_as_they_are_told_to,
            fail_mode_changes_while_it_runs,
            changes_that_cannot_be_are_told_in_words,
            connections_to_controllers_are_as_told,
            status_shows_what_ports_are_told,
        ],
        tests![exports:
            netflow_reaches_a_collector.vm(),
            sflow_reaches_a_collector.vm(),
            ipfix_reaches_a_collector.vm(),
        ],
        tests![tunnels:
            tunnels_join_two_hosts,
            tunnels_of_the_kernel_join_two_hosts.vm() @ 300,
            nodes_finish_checksums_before_a_tunnel,
            keys_keep_labs_apart,
            tunnels_take_other_ports,
            a_tunnel_without_a_way_is_told,
            a_tunnel_of_our_own_open_vswitch,
        ],
        tests![labs:
            two_labs_side_by_side,
            list_and_status_match_the_kernel.vm(),
            status_shows_what_open_vswitch_has,
            counters_and_learned_addresses_are_the_kernels.vm(),
            lists_match_the_kernel,
            two_commands_on_one_lab,
            a_process_left_in_a_node,
            a_capability_is_what_counts,
            a_user_namespace_will_do,
            another_user_gets_a_clear_error,
            a_stranger_in_our_group,
            every_state_file_lost,
            doctor_looks_at_this_machine.vm(),
        ],
        tests![refusals:
            names_taken_by_others,
            bad_files_touch_nothing,
            bad_commands_touch_nothing,
            a_huge_file,
        ],
        tests![undo:
            every_failing_request_is_taken_back @ 300,
            every_failing_mount_is_taken_back @ 300,
            a_setting_the_kernel_refuses.vm(),
            no_room_for_open_files,
            a_place_that_cannot_be_written,
            a_failed_change_leaves_the_lab_as_it_was @ 300,
        ],
        tests![own_ovs:
            it_is_private_and_leaves_nothing,
            it_survives_the_command,
            daemons_that_are_killed_come_back,
            one_that_does_not_come_up_is_no_switch,
            a_killed_keeper_stops_nothing,
            the_last_one_to_leave_stops_it,
            a_signal_ends_it_in_order,
            a_deleted_directory_is_made_again,
            it_is_not_started_beside_another,
            many_starts_make_one,
            killed_at_any_moment,
            tcp_passes_with_default_offloads,
            what_is_missing_is_named,
            doctor_shows_it,
            a_switch_becomes_one_of_another_kind,
            a_directory_has_one_namespace,
            others_are_left_alone,
        ],
        tests![faults:
            tcp_and_udp_over_a_linux_bridge,
            tcp_and_udp_over_the_userspace_datapath,
            tcp_and_udp_with_segmentation_offload,
            tcp_and_udp_over_the_kernel_datapath.vm(),
            a_killed_switch_is_told_of_and_comes_back,
            tcp_outlives_the_machines_daemons,
            tcp_outlives_the_daemons_of_our_own,
            a_lab_goes_without_its_switch,
            a_killed_database_loses_nothing,
            a_suspended_switch_is_late,
            a_switch_killed_in_the_middle_of_up,
            flows_lost_by_a_restart_are_put_back,
            a_spanning_tree_switched_off_lets_broadcasts_pass,
            a_ghost_port_is_seen_and_mended,
            what_others_did_to_open_vswitch_is_mended @ 300,
            what_others_have_in_open_vswitch_is_kept,
            names_in_the_database_that_others_have,
            a_namespace_deleted_by_others,
            a_namespace_deleted_during_a_change,
            daemons_that_say_nothing_keep_nobody,
            flows_that_cannot_be_read_block_nothing,
            gc_removes_what_it_can_see,
            what_only_the_database_has_is_not_forgotten,
            exports_and_qos_of_others_are_kept,
            a_qos_of_ours_on_several_ports_is_no_obstacle,
            ports_of_others_are_neither_awaited_nor_set,
            a_bound_may_be_longer_than_time,
            a_link_in_a_bond_of_others_is_refused_before,
        ],
        tests![limits:
            files_run_out,
            files_of_our_own_open_vswitch,
            others_have_the_ports,
            namespaces_run_out,
            processes_run_out,
            inodes_run_out,
            the_state_becomes_read_only,
            a_capability_is_missing,
        ],
        tests![limits over ovs: files_run_out],
        tests![walls:
            hostile_names_lead_nowhere,
            no_shell_is_given_a_text,
            what_is_ours_is_closed,
            what_a_process_is_given,
            a_sealed_node_reaches_nothing_of_ours,
        ],
        tests![soak:
            some_cycles_on_bridges,
            some_cycles_on_our_own_open_vswitch,
            a_thousand_cycles_on_bridges.long() @ 3600,
            a_thousand_cycles_on_our_own_open_vswitch.long() @ 3600,
            namespaces_are_freed,
            logs_of_our_own_open_vswitch_stay_short,
        ],
        tests![full_disk: under_the_machines_database, under_our_own_database],
        tests![examples over ovs: two_nodes, cable, router, multicast, tree],
        tests![change over ovs:
            a_second_up_writes_nothing,
            a_node_added_disturbs_nobody,
            an_address_changed_disturbs_nobody,
            a_link_removed_disturbs_nobody,
            a_link_moved_to_another_switch,
            addresses_that_change_places,
            a_node_made_again_is_the_same_to_its_neighbours,
            one_thing_at_a_time,
            what_others_changed_is_mended,
            a_dry_run_touches_nothing,
        ],
        tests![labs over ovs:
            two_labs_side_by_side.vm(),
            list_and_status_match_the_kernel,
            counters_and_learned_addresses_are_the_kernels,
            two_commands_on_one_lab,
            a_process_left_in_a_node,
            a_stranger_in_our_group,
            every_state_file_lost,
        ],
        tests![undo over ovs:
            every_failing_request_is_taken_back @ 300,
            every_failing_mount_is_taken_back @ 300,
            a_setting_the_kernel_refuses,
            no_room_for_open_files,
            a_place_that_cannot_be_written,
            a_failed_change_leaves_the_lab_as_it_was @ 300,
        ],
        tests![strangers over ovs:
            commands_inside_a_node_are_refused,
            a_link_moved_out_of_our_group_goes_too,
            a_link_with_an_address_of_others_stays,
            a_full_state_directory_keeps_no_lab,
        ],
        tests![crash:
            up_is_killed_at_every_request @ 300,
            up_with_macvlans_is_killed_at_every_request @ 300,
            up_of_what_lives_is_killed_at_every_request @ 300,
            down_is_killed_at_every_request @ 300,
            a_change_is_killed_at_every_request @ 300,
            what_is_done_to_links_is_killed_at_every_request @ 300,
            up_is_killed_at_any_moment @ 300,
        ],
        tests![crash over ovs: up_is_killed_at_any_moment @ 300],
        tests![crash_ovs:
            killed_at_every_request @ 300,
            killed_at_every_request_on_our_own @ 300,
            killed_and_whole_in_every_way.long() @ 900,
            killed_and_whole_in_every_way_on_our_own.long() @ 900,
        ],
        tests![killed:
            on_bridges @ 600,
            on_open_vswitch @ 600,
            on_our_own @ 600,
            at_every_step_on_bridges.long() @ 5400,
            at_every_step_on_open_vswitch.long() @ 9000,
            at_every_step_on_our_own.long() @ 9000,
            gc_goes_on_with_a_down,
        ],
        tests![lives:
            a_node_has_what_is_its_own,
            commands_end_as_they_end,
            a_killed_keeper_is_mended,
            limits_hold.vm(),
            processes_run_in_order,
            what_does_not_get_ready_is_taken_back,
            up_killed_while_it_waits,
            what_runs_in_a_sealed_node_is_sealed,
            logs_are_followed,
            logs_that_nobody_reads,
        ],
        tests![vm:
            the_kernel_has_what_it_is_here_for.vm(),
            netem_delays.vm(),
            open_vswitch_forwards_in_the_kernel.vm(),
            a_nic_of_hardware_comes_home.vm(),
        ],
    ])
}
