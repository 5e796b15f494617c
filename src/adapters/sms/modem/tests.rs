use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::config::Length;

const LONG: Duration = Duration::from_secs(20);

/// A modem whose program is a script that notes its arguments, input and environment in `folder`,
/// then does `then`.
fn modem(folder: &Path, tool: ModemTool, device: Option<&str>, then: &str) -> Modem {
    let program = folder.join("program");
    let here = folder.display();
    let script = format!(
        "#!/bin/sh\nfor argument in \"$@\"; do printf '%s\\n' \"$argument\"; done >> {here}/argv\n\
         cat >> {here}/stdin\nenv > {here}/env\n{then}\n"
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let timeout = Length(Duration::from_secs(10));
    Modem::new(config::Modem {
        tool,
        device: device.map(Into::into),
        program: Some(program),
        timeout,
    })
}

fn noted(folder: &Path, what: &str) -> String {
    fs::read_to_string(folder.join(what)).unwrap()
}

fn english() -> Letter {
    Letter { text: "[$(touch /x) `id`; \"Corner\"] code 482913".into(), ..Letter::example() }
}

#[test]
fn sms_tool_gets_plain_digits_and_letters() {
    let folder = tempfile::tempdir().unwrap();
    let sent = "echo 'sms sent sucessfully: 5'";
    let modem = modem(folder.path(), ModemTool::SmsTool, Some("/dev/ttyUSB2"), sent);
    modem.send(&english(), LONG).unwrap();
    let text = "(touch /x) id; \"Corner\" code 482913";
    let expected = format!("-d\n/dev/ttyUSB2\n--\nsend\n8613800138000\n{text}\n");
    assert_eq!(noted(folder.path(), "argv"), expected);
    fs::remove_file(folder.path().join("argv")).unwrap();
    modem.send(&Letter::example(), LONG).unwrap();
    assert!(noted(folder.path(), "argv").ends_with("\nsend\n8613800138000\n482913\n"));
}

#[test]
fn sms_tool_may_end_well_and_have_failed() {
    let folder = tempfile::tempdir().unwrap();
    let refused = "echo 'sms not sent, code: 500' >&2";
    let sent = modem(folder.path(), ModemTool::SmsTool, None, refused).send(&english(), LONG);
    assert!(matches!(sent, Err(SendError::Refused(_))), "{sent:?}");
}

#[test]
fn gammu_reads_the_text_from_its_input() {
    let folder = tempfile::tempdir().unwrap();
    let modem = modem(folder.path(), ModemTool::Gammu, Some("/etc/gammurc"), "exit 0");
    modem.send(&Letter::example(), LONG).unwrap();
    assert_eq!(noted(folder.path(), "stdin"), Letter::example().text);
    assert_eq!(
        noted(folder.path(), "argv"),
        "-c\n/etc/gammurc\nsendsms\nTEXT\n+8613800138000\n-autolen\n400\n-unicode\n"
    );
    let environment = noted(folder.path(), "env");
    let names = environment.lines().map(|line| line.split_once('=').unwrap().0);
    let ours: Vec<_> =
        names.filter(|name| !["PWD", "_", "SHLVL", "OLDPWD"].contains(name)).collect();
    assert!(ours.len() == 2 && environment.contains("LC_ALL=C.UTF-8"), "{environment}");
}

#[test]
fn mmcli_makes_a_message_sends_it_and_takes_it_away() {
    for (ending, taken) in [("exit 0", true), ("case \"$*\" in *--send*) exit 1;; esac", false)] {
        let folder = tempfile::tempdir().unwrap();
        let path = "/org/freedesktop/ModemManager1/SMS/21";
        let then =
            format!("case \"$*\" in *create*) echo 'Made: {path} (unknown)';; esac\n{ending}");
        let modem = modem(folder.path(), ModemTool::Mmcli, None, &then);
        let letter = Letter { text: "Bob's ',number='1".into(), ..Letter::example() };
        assert_eq!(modem.send(&letter, LONG).is_ok(), taken);
        assert_eq!(
            noted(folder.path(), "argv"),
            format!(
                "-m\nany\n--messaging-create-sms=number='+8613800138000',\
                 text='Bob\u{2019}s \u{2019},number=\u{2019}1'\n\
                 -s\n{path}\n--send\n-m\nany\n--messaging-delete-sms={path}\n"
            )
        );
    }
}

#[test]
fn a_program_that_fails_or_is_missing_is_known() {
    let folder = tempfile::tempdir().unwrap();
    for tool in [ModemTool::SmsTool, ModemTool::Gammu, ModemTool::Mmcli] {
        let sent = modem(folder.path(), tool, None, "exit 3").send(&english(), LONG);
        assert!(matches!(sent, Err(SendError::Refused(_))), "{sent:?}");
    }
    let mut modem = modem(folder.path(), ModemTool::Gammu, None, "");
    modem.settings.program = Some(folder.path().join("missing"));
    let sent = modem.send(&english(), LONG);
    assert!(matches!(sent, Err(SendError::Unreachable(_))), "{sent:?}");
}

#[test]
fn a_program_that_hangs_is_ended_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let then = format!("sleep 300 & echo $! $$ > {}\nsleep 300", pids.display());
    let modem = modem(folder.path(), ModemTool::Gammu, None, &then);
    let before = clock::boot();
    let sent = modem.send(&english(), Duration::from_secs(1));
    assert!(matches!(sent, Err(SendError::Unanswered(_))), "{sent:?}");
    assert!(clock::boot() - before < Duration::from_secs(5));
    for pid in fs::read_to_string(pids).unwrap().split_whitespace() {
        let lives = || {
            // A zombie is dead, and stays until its new parent looks.
            let state = fs::read_to_string(format!("/proc/{pid}/stat"));
            state.is_ok_and(|state| !state.contains(") Z"))
        };
        for _ in 0..100 {
            if lives() {
                thread::sleep(LOOK_EVERY);
            }
        }
        assert!(!lives(), "{pid} lives");
    }
}

#[test]
fn a_child_left_behind_does_not_hold_us_up() {
    let folder = tempfile::tempdir().unwrap();
    let modem = modem(folder.path(), ModemTool::Gammu, None, "sleep 2 & exit 0");
    let before = clock::boot();
    modem.send(&english(), LONG).unwrap();
    assert!(clock::boot() - before < Duration::from_millis(1500));
}

#[test]
fn a_flood_of_output_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let then = "yes sms sent | head -c 60000";
    modem(folder.path(), ModemTool::SmsTool, None, then).send(&english(), LONG).unwrap();
    let then = "yes | head -c 1000000";
    let sent = modem(folder.path(), ModemTool::SmsTool, None, then)
        .send(&english(), Duration::from_secs(1));
    assert!(matches!(sent, Err(SendError::Unanswered(_))), "{sent:?}");
}
