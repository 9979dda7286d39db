//! With durability "disk", what was acknowledged survives a power cut; shown on real file systems whose
//! device is cut off in the midst of work.

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use audit_logger::ffi::AUDIT_OK;
use support::calls::verified;
use support::worker::{Bench, FOREVER, Work};
use support::{Scratch, available, run, skip};

/// A file system on an image of its own, unmounted when it's dropped.
struct Image {
    image: PathBuf,
    place: PathBuf,
}

impl Image {
    fn make(scratch: &Scratch, kind: &str) -> Option<Image> {
        let (mkfs, size) = (format!("mkfs.{kind}"), 320 << 20);
        if !available(&mkfs) || !available("xfs_io") {
            return None;
        }
        let image = scratch.join("image");
        let file = std::fs::File::create(&image).expect("it can be made");
        file.set_len(size).expect("it can grow");
        run(Command::new(mkfs).arg("-q").arg(&image));
        let place = scratch.join("disk");
        std::fs::create_dir(&place).expect("it can be made");
        let image = Image { image, place };
        if !image.mount() {
            skip("only root can mount a file system");
            return None;
        }
        Some(image)
    }

    fn mount(&self) -> bool {
        let mount = Command::new("mount")
            .args(["-o", "loop"])
            .arg(&self.image)
            .arg(&self.place)
            .output();
        mount.is_ok_and(|output| output.status.success())
    }

    /// What isn't on the disk by now is gone.
    fn cut(&self) {
        run(Command::new("xfs_io")
            .args(["-x", "-c", "shutdown"])
            .arg(&self.place));
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
    }
}

fn survives(kind: &str) {
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
