//! A log that is opened on a full disk has no tree until there is room. What is written before that is
//! sealed by the first flush behind it, whoever else seals just then.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use uuid::Uuid;

use super::directory::Directory;
use super::disk::simulated::{Faults, Machine};
use super::schedules::line;
use super::{Access, Log, Sealing, Settings};
use crate::read::source::memory::InMemory;
use crate::read::verify::{Options, verify_files};

fn open(machine: &Machine) -> Arc<Log> {
    let settings = Settings {
        path: "/simulated".into(),
        access: Access::Owner,
        allow_network: false,
        to_disk: false,
        now: || UNIX_EPOCH + Duration::from_secs(200 * 86_400),
        gap_entry: Some(Box::new(|_, _, _| line(Uuid::new_v4(), 1))),
        sealing: Some(Sealing {
            key: None,
            guard_file: None,
            origin: None,
            interval: Duration::from_secs(3600),
            heartbeat: Duration::from_secs(3600),
            hash_key_id: None,
        }),
        witnessing: None,
    };
    let directory = Directory::simulated(machine.process().0).unwrap();
    let log = Log::of(Arc::new(directory), &Arc::new(settings), true).unwrap();
    log.care.end();
    log
}

/// A log without a tree, to which some lines were written.
fn written_before_it_is_sealed(lines: u64) -> (Machine, Arc<Log>) {
    let machine = Machine::new(7);
    machine.set_faults(Faults {
        full: true,
        ..Faults::default()
    });
    let log = open(&machine);
    assert!(log.sealer.get().is_none());
    machine.set_faults(Faults::default());
    for number in 0..lines {
        log.append(&mut line(Uuid::new_v4(), number % 10)).unwrap();
    }
    assert!(log.sealer.get().is_none());
    (machine, log)
}

fn unsealed(machine: &Machine) -> u64 {
    let files = InMemory::of(machine.files());
    let report = verify_files(&files, &Options::default()).unwrap();
    assert_eq!(report.findings, []);
    report.unsealed_lines
}

#[test]
fn the_first_flush_behind_it_waits_for_who_just_seals() {
    let (machine, log) = written_before_it_is_sealed(3);
    let other = open(&machine);
    let sealing = other.sealer.get().unwrap().tree().try_lock().unwrap();
    let flushed = std::thread::scope(|scope| {
        let flushing = scope.spawn(|| log.flush());
        std::thread::sleep(Duration::from_millis(300));
        drop(sealing);
        flushing.join().unwrap()
    });
    flushed.unwrap();
    assert_eq!(unsealed(&machine), 0);
}

#[test]
fn the_first_flush_behind_it_seals_all_however_long_that_takes() {
    // More than is sealed at once where the disk is slow.
    let (machine, log) = written_before_it_is_sealed(10_000);
    machine.set_faults(Faults {
        sync_takes: Duration::from_millis(250),
        ..Faults::default()
    });
    log.flush().unwrap();
    assert_eq!(unsealed(&machine), 0);
}
