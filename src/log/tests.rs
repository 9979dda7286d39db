//! What must be true of a log in one process, on the real disk.

use super::*;
use std::sync::atomic::AtomicU64;

use uuid::Uuid;

use std::time::{SystemTime, UNIX_EPOCH};

/// The day that the log's clock shows.
static DAY: AtomicU64 = AtomicU64::new(0);

fn noon() -> SystemTime {
    let days = DAY.load(Ordering::SeqCst);
    UNIX_EPOCH + Duration::from_secs(days * 86_400 + 43_200)
}

fn line() -> Line {
    let id = Uuid::new_v4();
    let text =
        format!("{{\"id\":\"{id}\",\"timestamp\":\"0000-00-00T00:00:00.000000Z\",\"n\":1}}\n");
    Line::from_bytes(text.into_bytes()).unwrap()
}

fn settings(path: &std::path::Path, now: Now) -> Arc<Settings> {
    Arc::new(Settings {
        path: path.to_owned(),
        access: Access::Owner,
        allow_network: false,
        to_disk: false,
        now,
        gap_entry: None,
        sealing: None,
        witnessing: None,
    })
}

/// Has nobody look after it any more.
fn leave_alone(log: &Arc<Log>) {
    log.care.end();
    while Arc::strong_count(log) > 1 {
        std::thread::yield_now();
    }
}

fn scratch() -> PathBuf {
    std::env::temp_dir().join(format!("audit_logger-log-{}", Uuid::new_v4()))
}

#[test]
fn a_kill_between_an_entry_and_its_slot_leaves_one_whatever_the_clock_did() {
    let path = scratch();
    let settings = settings(&path, noon);
    for (begun, ended) in [(200, 200), (200, 201), (200, 199), (202, 100)] {
        for written in [false, true] {
            DAY.store(begun, Ordering::SeqCst);
            let (log, _) = Log::open(&settings, None).unwrap();
            let mut entry = line();
            let Intent(slot) = log.begin(&entry, 1000).unwrap();
            let mut slot = slot.unwrap();
            DAY.store(ended, Ordering::SeqCst);
            if written {
                let now = log.now();
                entry.stamp(&now);
                let mut state = log.lock();
                let _ = log
                    .write(&mut state, &entry, &now, Some(&mut slot))
                    .unwrap();
            }
            leave_alone(&log);
            drop((log, slot));

            let (log, swept) = Log::open(&settings, None).unwrap();
            let found = log.find(Place::head_of(*b"1970-01-01"), &[entry.id()].into());
            let times: usize = log
                .directory
                .days()
                .unwrap()
                .iter()
                .map(|day| std::fs::read_to_string(path.join(day.file_name())).unwrap())
                .map(|text| text.matches(&entry.id().to_string()).count())
                .sum();
            let what = format!("begun on day {begun}, ended on {ended}, written: {written}");
            assert_eq!(found.unwrap().there.len(), 1, "{what}");
            assert_eq!((times, swept.recovered), (1, u64::from(!written)), "{what}");
            leave_alone(&log);
        }
    }
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_process_that_had_to_begin_another_journal_is_counted_once() {
    let path = scratch();
    let (log, _) = Log::open(&settings(&path, SystemTime::now), None).unwrap();
    let write_and_note = || {
        log.append(&mut line()).unwrap();
        let state = log.lock();
        log.note(&state, state.day.as_ref());
        Arc::clone(state.journal.as_ref().unwrap())
    };
    // A call that is still open holds it.
    let refused = write_and_note();
    refused.distrust();
    log.begin(&line(), 1000).unwrap();
    write_and_note();
    // The log's thread may just be at it.
    while log.sweep(false).unwrap().is_none() {
        std::thread::yield_now();
    }
    let health = std::fs::read(path.join(".state/health.json")).unwrap();
    let health: serde_json::Value = serde_json::from_slice(&health).unwrap();
    assert_eq!(
        (&health["written"], &health["processes"]),
        (&2.into(), &1.into())
    );
    leave_alone(&log);
    std::fs::remove_dir_all(path).unwrap();
}
