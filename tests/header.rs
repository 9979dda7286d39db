//! The header is what the code says, compiles everywhere, and documents every function.

mod support;

use std::ffi::CStr;
use std::path::Path;
use std::process::Command;

use audit_logger::ffi::*;
use support::{
    Scratch, available, cc, compiles_alone, declarations, functions, header, root, skip,
};

#[test]
fn the_committed_header_is_the_generated_one() {
    let generated = std::fs::read_to_string(env!("GENERATED_HEADER")).expect("build.rs wrote it");
    assert!(
        header() == generated,
        "include/audit_logger.h is not what src/ffi says; mend it by\n  cp {} include/audit_logger.h",
        env!("GENERATED_HEADER")
    );
}

/// A program that includes the header twice, with and without libaudit's, and uses its macros.
const PROGRAM: &str = r#"
#ifdef BESIDE_LIBAUDIT
#include <libaudit.h>
#include <linux/audit.h>
#endif
#include "audit_logger.h"
#include "audit_logger.h"
#include <stdio.h>

int main(void)
{
    AuditChatRequest request = AUDIT_CHAT_REQUEST_INIT;
    AuditRecord record = AUDIT_RECORD_INIT;
    AuditStatus status = AUDIT_E_ARGUMENT;
    request.user_id = audit_text("user");
    record.model = audit_text(NULL);
    return request.user_id.len == 4 && record.model.len == 0 && status == -1 ? 0 : 1;
}
"#;

/// Compiles the program by each standard that the compiler knows.
fn compiles(compiler: &dyn Fn() -> Command, standards: &[&str], extension: &str) {
    let scratch = Scratch::new();
    let source = scratch.join(&format!("program.{extension}"));
    std::fs::write(&source, PROGRAM).expect("the scratch directory can be written to");
    for standard in standards {
        compiles_alone(&mut compiler(), standard, &source, &[]);
    }
    if Path::new("/usr/include/libaudit.h").exists() {
        // Its own header isn't pedantic.
        let more = [
            "-DBESIDE_LIBAUDIT",
            "-Wno-pedantic",
            "-isystem",
            "/usr/include",
        ];
        compiles_alone(
            &mut compiler(),
            standards[standards.len() - 1],
            &source,
            &more,
        );
    } else {
        skip("libaudit.h isn't installed");
    }
}

const C: [&str; 4] = ["c99", "c11", "c17", "c2x"];
const CPP: [&str; 5] = ["c++11", "c++14", "c++17", "c++20", "c++2b"];

#[test]
fn the_header_compiles_as_c_by_the_default_compiler() {
    compiles(&cc, &C, "c");
}

#[test]
fn the_header_compiles_as_cpp_by_gcc() {
    if available("g++") {
        compiles(&|| Command::new("g++"), &CPP, "cpp");
    }
}

#[test]
fn the_header_compiles_as_c_and_cpp_by_clang() {
    if available("clang") {
        compiles(&|| Command::new("clang"), &C, "c");
        compiles(&|| Command::new("clang++"), &CPP, "cpp");
    }
}

#[test]
fn an_ignored_status_is_a_warning() {
    let scratch = Scratch::new();
    let source = scratch.join("ignores.c");
    let program = "#include \"audit_logger.h\"\nint main(void) { audit_logger_stats(0, 0); }\n";
    std::fs::write(&source, program).expect("the scratch directory can be written to");
    let output = cc()
        .args(["-std=c99", "-c", "-o", "/dev/null", "-I"])
        .arg(root().join("include"))
        .arg(&source)
        .output()
        .expect("the C compiler starts");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("unused"),
        "{output:?}"
    );
}

#[test]
fn the_word_against_ignoring_a_status_may_be_another() {
    let scratch = Scratch::new();
    let source = scratch.join("ignores.c");
    let program = "#include \"audit_logger.h\"\nvoid f(void) { audit_logger_stats(0, 0); }\n";
    std::fs::write(&source, program).expect("the scratch directory can be written to");
    compiles_alone(&mut cc(), "c99", &source, &["-DAUDIT_MUST_USE="]);
}

#[test]
fn without_directives_the_header_is_declarations_alone() {
    let declarations = declarations();
    // No attribute, no macro, no code: what stands in braces is of a type.
    assert!(
        !declarations.contains(['#', '"']) && !declarations.contains("__"),
        "{declarations}"
    );
    let (bodies, types) = ("{", ["enum {", "typedef struct "]);
    for line in declarations.lines().filter(|line| line.contains(bodies)) {
        assert!(types.iter().any(|kind| line.starts_with(kind)), "{line}");
    }
    for (name, _) in functions(&header()) {
        assert!(declarations.contains(&format!("{name}(")), "{name}");
    }
}

#[test]
fn every_function_says_what_a_c_programmer_must_know() {
    let header = header();
    let functions = functions(&header);
    for (name, comment) in &functions {
        assert!(
            comment.contains("ny thread"),
            "{name} doesn't say from which threads: {comment}"
        );
        let declaration = &header[header.find(&format!("{name}(")).expect("it's declared")..];
        let declaration = &declaration[..declaration.find(';').expect("it ends")];
        let parameters = declaration.split(['(', ',', ')']).skip(1);
        for parameter in parameters.filter_map(|text| text.trim().rsplit([' ', '*']).next()) {
            let explained = comment.contains(&format!("{parameter}:"))
                || comment.contains(&format!("{parameter}, "))
                || parameter.is_empty()
                || parameter == "void"
                || comment.to_lowercase().contains(parameter);
            assert!(explained, "{name} doesn't explain {parameter}: {comment}");
        }
        if header.contains(&format!("AuditStatus {name}(")) {
            assert!(
                comment.contains("Returns AUDIT_OK"),
                "{name} doesn't say what it returns"
            );
        }
    }
}

#[test]
fn the_functions_of_a_handle_stand_together() {
    let header = header();
    let names: Vec<String> = functions(&header)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let by_handle = [
        "audit_logger_new",
        "audit_logger_flush",
        "audit_logger_flush_with",
        "audit_logger_close",
        "audit_logger_free",
        "audit_log_free",
        "audit_logger_stats",
        "audit_logger_hash",
        "audit_chat_request_init",
        "audit_chat",
        "audit_record_init",
        "audit_logger_log",
        "audit_logger_begin",
        "audit_logger_finish",
        "audit_chat_json",
        "audit_record_json",
        "audit_record_begin_json",
        "audit_record_finish_json",
        "audit_queue_new",
        "audit_queue_submit",
        "audit_queue_next",
        "audit_queue_fd",
        "audit_queue_cancel",
        "audit_queue_free",
        "audit_logger_verify",
        "audit_logger_prove",
        "audit_logger_maintain",
        "audit_reply_text",
        "audit_reply_int",
        "audit_reply_free",
        "audit_cancel_new",
        "audit_cancel_trigger",
        "audit_cancel_free",
        "audit_text",
        "audit_json_quote",
        "audit_status_name",
        "audit_logger_version",
    ];
    assert_eq!(names, by_handle);
}

#[test]
fn no_line_of_the_header_is_longer_than_100_columns() {
    for line in header().lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn no_name_is_one_of_libaudit() {
    // What libaudit 3 and its development branch export under our prefix.
    let theirs = "action_to_name add_rule_data add_watch add_watch_dir can_control can_read \
        can_write close delete_rule_data detect_machine determine_machine elf_to_machine \
        encode_nv_string encode_value errno_to_name field_to_name flag_to_name \
        format_signal_info fstype_to_name ftype_to_name get_features get_reply get_session \
        getloginuid is_enabled log_acct_message log_semanage_message log_user_avc_message \
        log_user_comm_message log_user_command log_user_message machine_to_elf machine_to_name \
        make_equivalent msg msg_type_to_name name_to_action name_to_errno name_to_field \
        name_to_flag name_to_fstype name_to_ftype name_to_machine name_to_msg_type \
        name_to_syscall number_to_errmsg open operator_to_symbol request_features \
        request_rules_list_data request_signal_info request_status \
        reset_backlog_wait_time_actual reset_lost rule_create_data rule_fieldpair_data \
        rule_free_data rule_init_data rule_interfield_comp_data rule_syscall_data \
        rule_syscallbyname_data send set_backlog_limit set_backlog_wait_time set_enabled \
        set_failure set_feature set_loginuid_immutable set_pid set_rate_limit setloginuid \
        syscall_to_name trim_subtrees update_watch_perms value_needs_encoding \
        uringop_to_name name_to_uringop rule_io_uringbyname_data";
    for (name, _) in functions(&header()) {
        let clash = theirs
            .split_whitespace()
            .any(|their| name == format!("audit_{their}"));
        assert!(!clash, "{name} is libaudit's");
    }
}

#[test]
fn structures_have_no_hidden_padding() {
    let text = size_of::<AuditText>();
    assert_eq!(text, 16);
    assert_eq!(size_of::<AuditChatRequest>(), 2 * 8 + 7 * text + 4 * 8);
    assert_eq!(size_of::<AuditRecord>(), 2 * 8 + 8 * text + 3 * 8);
}

#[test]
fn structures_are_laid_out_in_c_as_in_rust() {
    let scratch = Scratch::new();
    let source = scratch.join("layout.c");
    let program = format!(
        "#include \"audit_logger.h\"\n\
         _Static_assert(sizeof(AuditChatRequest) == {}, \"AuditChatRequest\");\n\
         _Static_assert(sizeof(AuditRecord) == {}, \"AuditRecord\");\n\
         _Static_assert(offsetof(AuditChatRequest, options) == {}, \"options\");\n\
         _Static_assert(offsetof(AuditChatRequest, cancel) == {}, \"cancel\");\n\
         _Static_assert(offsetof(AuditRecord, latency_ms) == {}, \"latency_ms\");\n\
         _Static_assert(offsetof(AuditRecord, metadata) == {}, \"metadata\");\n",
        size_of::<AuditChatRequest>(),
        size_of::<AuditRecord>(),
        std::mem::offset_of!(AuditChatRequest, options),
        std::mem::offset_of!(AuditChatRequest, cancel),
        std::mem::offset_of!(AuditRecord, latency_ms),
        std::mem::offset_of!(AuditRecord, metadata),
    );
    std::fs::write(&source, program).expect("the scratch directory can be written to");
    compiles_alone(&mut cc(), "c11", &source, &[]);
}

#[test]
fn every_status_has_its_name_and_its_number() {
    let header = header();
    let numbers: Vec<(&str, i32)> = header
        .lines()
        .filter_map(|line| line.trim().strip_prefix("AUDIT_E_")?.split_once(" = "))
        .filter_map(|(name, number)| Some((name, number.strip_suffix(',')?.parse().ok()?)))
        .collect();
    // As published: the numbers never change and are never used again.
    let published = [
        ("ARGUMENT", -1),
        ("HANDLE", -2),
        ("CONFIG", -3),
        ("LOG", -4),
        ("LOG_PENDING", -5),
        ("CALL", -6),
        ("CANCELLED", -7),
        ("TIMEOUT", -8),
        ("TAMPERED", -9),
        ("NOT_FOUND", -10),
        ("REENTRANT", -11),
        ("FORKED", -12),
        ("INTERNAL", -13),
        ("WITNESS", -14),
    ];
    assert_eq!(numbers, published);
    for (name, number) in published {
        // SAFETY: the names are static.
        let named = unsafe { CStr::from_ptr(audit_status_name(number)) };
        assert_eq!(named.to_str(), Ok(format!("AUDIT_E_{name}").as_str()));
    }
}
