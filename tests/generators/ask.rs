//! What bindgen makes of the header. Argument: a configuration.

#[allow(dead_code, non_camel_case_types)]
mod audit_logger {
    include!("audit_logger.rs");
}

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::{size_of, zeroed};
use std::ptr::{null_mut, slice_from_raw_parts};

use audit_logger::*;

// Every constant has the one type.
const CONSTANTS: [i32; 4] = [AUDIT_OK, AUDIT_E_CONFIG, AUDIT_CONTINUE, AUDIT_REPLY_CONTENT];

unsafe extern "C" fn on_delta(text: *const c_char, len: usize, heard: *mut c_void) -> i32 {
    let heard = unsafe { &mut *heard.cast::<Vec<u8>>() };
    heard.extend_from_slice(unsafe { &*slice_from_raw_parts(text.cast(), len) });
    AUDIT_CONTINUE
}

unsafe fn text(reply: *const AuditReply, field: i32) -> String {
    let text = unsafe { CStr::from_ptr(audit_reply_text(reply, field, null_mut())) };
    text.to_str().unwrap().to_owned()
}

fn main() {
    assert_eq!(CONSTANTS, [0, -3, 1, 1]);
    let config = CString::new(std::env::args().nth(1).unwrap()).unwrap();
    let (mut logger, mut reply) = (null_mut(), null_mut());
    let mut heard: Vec<u8> = Vec::new();
    unsafe {
        assert_eq!(audit_logger_new(config.as_ptr(), &mut logger, null_mut()), AUDIT_OK);

        let mut request: AuditChatRequest = zeroed();
        audit_chat_request_init(&mut request, size_of::<AuditChatRequest>());
        request.user_id = audit_text(c"user-1".as_ptr());
        request.prompt = audit_text(c"hello".as_ptr());
        request.on_delta = Some(on_delta);
        request.context = (&raw mut heard).cast();
        assert_eq!(audit_chat(logger, &request, &mut reply), AUDIT_OK);
        let content = text(reply, AUDIT_REPLY_CONTENT);
        assert_eq!(content.as_bytes(), heard);
        println!("{content}");
        audit_reply_free(reply);

        let mut record: AuditRecord = zeroed();
        audit_record_init(&mut record, size_of::<AuditRecord>());
        record.user_id = audit_text(c"user-1".as_ptr());
        record.model = audit_text(c"a/model".as_ptr());
        record.prompt = audit_text(c"hello".as_ptr());
        record.status = audit_text(c"success".as_ptr());
        assert_eq!(audit_logger_log(logger, &record, &mut reply), AUDIT_OK);
        println!("{}", text(reply, AUDIT_REPLY_ENTRY_ID));
        audit_reply_free(reply);
        audit_logger_free(logger);

        let status = audit_logger_new(c"{".as_ptr(), &mut logger, null_mut());
        assert_eq!(status, AUDIT_E_CONFIG);
        println!("{}", CStr::from_ptr(audit_status_name(status)).to_str().unwrap());
    }
}
