//! The command line against the running daemon, and what refuses to start.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use crate::lab::{Dhcp, Gateway, Lab, Settings};

#[test]
fn a_second_instance_refuses_to_start() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    lab.guests[0].join(Dhcp::Udhcpc);
    lab.guests[0].log_in(&gateway);
    let second = gateway.command(&["run"]);
    assert!(!second.success && second.status != 124, "{second:?}");
    assert!(second.stderr.contains("running"), "{second:?}");
    assert!(lab.guests[0].online(), "the first goes on");
    gateway.command(&["status"]).ok();
}

#[test]
fn a_bad_configuration_is_refused_with_its_line() {
    let lab = Lab::new(0);
    let file = lab.folder().join("bad.toml");
    std::fs::write(
        &file,
        "[store]\nid = \"s\"\nname = \"S\"\ntime_zone = \"CST-8\"\n\n[[zone]]\nname = \"guest\"\n\
         interface = \"br-guest\"\nsession_timout = \"1h\"\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    for args in [["check", file].as_slice(), &["run", "--config", file]] {
        let output = Gateway::tool(args);
        assert!(!output.success && output.status != 124, "{output:?}");
        let said = output.stdout + &output.stderr;
        assert!(said.contains('9') && said.contains("session_timout"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn the_examples_are_valid() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        // The backend's own is read by its own test.
        let routers = path.extension().is_some_and(|extension| extension == "toml");
        if routers && !path.ends_with("hq.toml") {
            Gateway::tool(&["check", path.to_str().unwrap()]).ok();
            count += 1;
        }
    }
    assert!(count >= 2, "{count} examples");
}

#[test]
fn status_and_clients_say_who_is_online() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let before = gateway.json(&["status"]);
    lab.guests[0].log_in(&gateway);
    let after = gateway.json(&["status"]);
    assert_ne!(before, after);
    let provider = &after["sms"]["providers"][0];
    assert_eq!((&provider["provider"], &provider["taken"]), (&"spool".into(), &1.into()));
    assert!(provider["mean_ms"].is_u64() && provider["failed"].is_object(), "{provider}");
    assert!(gateway.json(&["clients"]).to_string().contains(&lab.guests[0].mac));
    assert_eq!(gateway.json(&["stats"])["sms"]["providers"][0]["provider"], "spool");
    for verb in ["status", "clients", "stats"] {
        let text = gateway.command(&[verb]).ok();
        assert!(!text.trim().is_empty() && !text.contains(&lab.guests[0].phone), "{text}");
    }
}

#[test]
fn the_control_socket_is_for_root_and_survives_nonsense() {
    let lab = Lab::new(0);
    let gateway = lab.maitred(&Settings::new());
    let run = std::fs::read_dir(lab.folder().join("run")).unwrap().flatten();
    let socket = run
        .map(|entry| entry.path())
        .find(|path| UnixStream::connect(path).is_ok())
        .expect("a control socket");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    for nonsense in [&b"\0\0\0\0"[..], b"{", b"{\"verb\":\"fly\"}\n", &vec![0xff; 70_000]] {
        use std::io::Write;
        let mut stream = UnixStream::connect(&socket).unwrap();
        // The daemon may hang up while we still talk.
        let _ = stream.write_all(nonsense);
    }
    gateway.command(&["status"]).ok();
}
