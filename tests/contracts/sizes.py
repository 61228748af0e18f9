"""How much is tried on every change, and how much under ``nox -s heavy``."""

from __future__ import annotations

import os

HEAVY = os.environ.get("MAILDAEMON_HEAVY") == "1"
"""Known while tests are collected, other than the fixture of that name."""

MUCH_ALIKE = "much_alike"
"""A class with this attribute, true, differs little from another, which shows all laws."""

TELLING = {
    # what such a class shows on every change
    # of a tree
    "test_what_is_written_is_there_and_reads_back",
    "test_pieces_that_break_off_leave_no_whole_file_and_their_own_error",
    "test_a_stat_is_never_an_old_one",
    "test_publishing_moves_a_file_whole",
    "test_publishing_never_replaces",
    "test_publishing_into_a_folder_that_is_missing_says_so",
    "test_only_empty_folders_are_removed",
    "test_names_are_those_of_files_and_folders",
    "test_several_threads_do_not_disturb_each_other",
    # of a destination
    "test_publishing_makes_each_part_visible_whole",
    "test_nothing_is_ever_overwritten",
    "test_what_a_consumer_took_stays_published_and_does_not_come_back",
    "test_recovering_tells_what_was_published_from_what_was_not",
    "test_of_a_forgotten_batch_nothing_is_known",
    "test_a_content_that_breaks_off_harms_no_other",
    "test_of_many_who_want_the_same_path_one_gets_it",
    "test_whatever_step_it_dies_at_nothing_is_lost_torn_or_doubled",
    "test_big_content_comes_through",
    # of a source that waits for news
    "test_a_new_mail_is_told_of",
    "test_after_waiting_the_session_works_as_before",
    "test_a_server_that_hangs_up_is_noticed_each_time",
    # of a source
    "test_every_mail_is_listed_once_across_pages_oldest_first",
    "test_the_bytes_are_exactly_what_the_server_holds",
    "test_exactly_the_given_mails_are_deleted",
}
