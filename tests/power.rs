//! With durability "disk", what was acknowledged survives a power cut; shown on real file systems whose
//! device is cut off in the midst of work.

mod support;

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use audit_logger::ffi::AUDIT_OK;
use support::calls::verified;
use support::image::Image;
use support::pace::until;
use support::worker::{Bench, FOREVER, Work};
use support::{Scratch, available, run};

fn survives(kind: &str) {
    if !available("xfs_io") {
        return;
    }
    for after in [30, 150, 400] {
        let scratch = Scratch::new();
        let Some(image) = Image::make(&scratch, kind) else {
            return;
        };
        let log = image.place.join("new/log");
        let sealing = json!({"seal_interval_ms": 10});
        let config = json!({"durability": "disk", "integrity": sealing});
        let bench = Bench::at(scratch, log, config);
        let work = Work {
            threads: 8,
            expected: "any",
            ..FOREVER
        };
        let worker = bench.start("p", work);
        if after >= 100 {
            until("it works", || !bench.said().is_empty());
        }
        std::thread::sleep(Duration::from_millis(after));
        let before = bench.until_now();
        image.cut();
        drop(worker);
        run(Command::new("umount").arg(&image.place));
        assert!(image.mount(), "the file system is mounted again");
        let counts = bench.check_kept(before);
        // Nothing was signed before it was on the disk.
        let (status, report) = verified(&bench.log, &json!({}));
        assert_eq!(status, AUDIT_OK, "{kind}, cut after {after} ms: {report:#}");
        println!(
            "{kind}, cut after {after} ms: {counts:?}, {} lines sealed",
            report["lines"]
        );
        assert!(after < 100 || counts.said > 0, "nothing was acknowledged");
    }
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_on_ext4() {
    survives("ext4");
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_on_xfs() {
    survives("xfs");
}
