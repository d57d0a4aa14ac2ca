//! The suite in bubblewrap: the same functions as on Docker, and what is this backend's own.

mod image;
mod own;
mod providers;
mod user;

use crate::docker;
use crate::place::{Place, on};

macro_rules! also_here {
    ($($module:ident: $($test:ident),+;)+) => {
        $(mod $module {
            $(
                #[test]
                fn $test() {
                    super::on(super::Place::Bubblewrap, super::docker::$module::$test);
                }
            )+
        })+
    };
}

also_here! {
    main_job: an_issue_becomes_a_scanned_branch_and_a_record,
        a_record_replays_without_key_and_upstream_keeps_what_it_had,
        what_was_left_uncommitted_is_saved_and_pushed,
        a_brought_checkout_leaves_its_credentials_behind,
        a_repository_with_sha256_ids_is_worked_on_like_any_other,
        a_submodule_with_a_relative_address_comes_through_the_gate_if_it_is_declared,
        an_agent_that_ended_on_an_api_error_has_failed,
        the_rules_are_those_of_the_base_branch,
        a_bottle_without_routes_talks_to_pipelock;
    approve: a_comment_of_a_permitted_person_opens_a_route_and_no_cheat_does,
        a_comment_lets_a_held_push_and_a_finding_through_and_nothing_like_them,
        the_commands_list_show_and_approve,
        a_yes_about_a_held_request_lets_these_bytes_go_and_no_others,
        a_no_about_a_held_request_says_who_and_why_and_stands,
        killed_in_the_middle_of_an_apply_it_is_the_old_policy_or_the_new_one;
    promises: no_credential_is_in_the_bottle,
        what_no_route_allows_is_refused_and_says_what_is_missing,
        nothing_secret_is_in_the_record,
        nothing_is_left_after_success_failure_and_crash;
    deaths: a_door_that_is_killed_comes_back_and_the_run_goes_on,
        the_death_of_the_bundles_first_process_ends_the_run,
        the_death_of_the_supervisor_ends_the_run,
        a_door_that_does_not_stay_up_ends_the_run,
        the_death_of_the_guests_first_process_ends_the_run,
        no_signal_is_blocked_in_what_the_agent_runs;
    setup: a_setup_prepares_the_repository_and_its_ways_out_are_closed_before_the_agent,
        a_setup_that_fails_ends_the_run_before_the_agent,
        a_setup_that_tells_the_agent_what_to_do_ends_the_run,
        a_setup_that_never_ends_is_ended,
        a_setup_finds_what_one_of_the_base_branch_left_and_nothing_of_an_agent,
        a_setup_that_may_be_skipped_runs_where_the_lock_files_are_others,
        a_kept_setup_that_was_changed_is_removed_and_the_run_goes_on,
        a_setup_that_fails_or_leaves_what_could_do_harm_is_not_kept,
        a_checkout_with_links_gets_no_cache;
    seal: no_way_out_works_from_a_running_guest;
    services: the_agent_works_with_a_service_that_reaches_nothing,
        a_service_that_is_not_ready_ends_the_run_before_the_agent;
    live: a_live_run_gets_its_credential_on_the_way_and_can_be_replayed,
        a_credential_that_is_asked_for_is_renewed_in_the_running_bottle,
        an_upstream_that_nobody_trusts_gets_no_credential;
    bad_world: the_upstream_is_out_of_reach,
        the_host_key_is_another,
        the_host_key_is_not_pinned;
    signals: sigint_ends_the_run_in_good_order_in_every_phase,
        sigterm_ends_the_run_in_good_order_in_every_phase,
        a_cost_limit_ends_the_agent,
        a_token_limit_ends_the_agent,
        a_budget_of_requests_is_kept_by_egress_and_the_work_is_pushed,
        a_limit_of_turns_ends_the_agent,
        a_time_limit_ends_the_agent_and_keeps_the_work;
}
