//! Real programs that look for portals, each in a guest's namespace: what they say before the login
//! and after it. What is measured is printed.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maitred::clock;
use serde_json::{Value, json};

use crate::lab::{Background, Dhcp, Guest, Lab, ROUTER_V4, Settings, run, until};

#[test]
fn networkmanager_sees_the_portal_then_the_internet() {
    let lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    let guest = &lab.guests[0];
    let manager = NetworkManager::start(&lab, guest);
    let joined = clock::boot().0;
    until(Duration::from_secs(60), "NetworkManager to see a portal", || {
        (manager.connectivity() == "portal").then_some(())
    });
    let noticed = clock::boot().0 - joined;
    guest.log_in(&gateway);
    let logged_in = clock::boot().0;
    until(Duration::from_secs(60), "NetworkManager to see the internet", || {
        (manager.connectivity() == "full").then_some(())
    });
    let full = clock::boot().0 - logged_in;
    println!(
        "NetworkManager: portal {noticed} ms after it has an address, full {full} ms after the login"
    );
    gateway.command(&["revoke", &guest.mac]).ok();
    let again = manager.nmcli(&["networking", "connectivity", "check"]);
    assert_eq!(again.trim(), "portal", "a check after the session");
}

#[test]
fn firefox_sees_the_portal_then_the_internet() {
    const LOCKED: u64 = 3;
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    let mut firefox = Firefox::start(&lab, guest);
    let state = |firefox: &mut Firefox| firefox.ask("return portals.state;").as_u64().unwrap();
    let bar = "return bar !== null && bar !== undefined;";
    until(Duration::from_secs(60), "Firefox to see a portal", || {
        (state(&mut firefox) == LOCKED).then_some(())
    });
    until(Duration::from_secs(10), "Firefox to offer the login page", || {
        firefox.ask(bar).as_bool().unwrap().then_some(())
    });
    guest.log_in(&gateway);
    let logged_in = clock::boot().0;
    firefox.ask("portals.recheckCaptivePortal();");
    until(Duration::from_secs(10), "Firefox to see the internet", || {
        (state(&mut firefox) != LOCKED).then_some(())
    });
    println!("Firefox: online {} ms after one recheck", clock::boot().0 - logged_in);
    until(Duration::from_secs(10), "Firefox to take its offer back", || {
        (!firefox.ask(bar).as_bool().unwrap()).then_some(())
    });
}

#[test]
fn captivity_sees_the_portal_then_the_internet() {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(&Settings::new());
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = root.join("target/tools/captivity/bin/captivity");
    assert!(program.exists(), "captivity is missing: tests/run.sh installs it (captivity-cli)");
    let home = format!("HOME={}", lab.folder().display());
    let probe = || {
        let output = guest.netns.exec(&["env", &home, program.to_str().unwrap(), "probe"]);
        (output.status, output.stdout + &output.stderr)
    };
    let (_, before) = probe();
    let portal = "Portal URL: http://";
    assert!(before.contains("portal_detected") && before.contains(portal), "{before}");
    assert!(before.contains(":2050/"), "{before}");
    guest.log_in(&gateway);
    let (status, after) = probe();
    assert!(status == 0 && after.to_lowercase().contains("connected"), "{after}");
    assert!(!after.contains(portal), "{after}");
}

/// NetworkManager with a bus and folders of its own.
struct NetworkManager {
    process: Background,
}

impl NetworkManager {
    /// Starts it and lets it join by DHCP.
    #[track_caller]
    fn start(lab: &Lab, guest: &Guest) -> Self {
        for (tool, package) in
            [("/usr/sbin/NetworkManager", "network-manager"), ("/usr/bin/dbus-daemon", "dbus")]
        {
            assert!(Path::new(tool).exists(), "{tool} is missing: install {package}");
        }
        fs::write(guest.netns.resolv_conf(), format!("nameserver {ROUTER_V4}\n")).unwrap();
        let script = lab.folder().join("manager.sh");
        fs::write(&script, MANAGER).unwrap();
        let args = ["unshare", "--mount", "sh", script.to_str().unwrap()];
        let process = guest.netns.spawn(&args, &lab.folder().join("manager.log"));
        let manager = Self { process };
        until(Duration::from_secs(30), "NetworkManager to connect", || {
            let state = manager.nmcli(&["-g", "GENERAL.STATE", "device", "show", "eth0"]);
            state.contains("(connected)").then_some(())
        });
        manager
    }

    /// What it says by itself, without being told to check.
    fn connectivity(&self) -> String {
        self.nmcli(&["networking", "connectivity"]).trim().to_owned()
    }

    fn nmcli(&self, args: &[&str]) -> String {
        let pid = self.process.pid().to_string();
        let enter = ["nsenter", "--target", &pid, "--mount", "--net", "nmcli"];
        run(&[&enter, args].concat(), 10).stdout
    }
}

impl Drop for NetworkManager {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- NetworkManager said ---\n{}", self.process.output());
        }
    }
}

/// `/sys` is read-only, so that NetworkManager waits for no udev; all else is as Debian ships it.
const MANAGER: &str = r"
set -e
mount -o remount,ro /sys
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/NetworkManager
mount -t tmpfs tmpfs /etc/NetworkManager
mkdir /run/dbus /etc/NetworkManager/system-connections
cat >/etc/NetworkManager/NetworkManager.conf <<END
[main]
plugins=keyfile
dns=none
auth-polkit=root-only
[connectivity]
uri=http://nmcheck.gnome.org/check_network_status.txt
END
cat >/etc/NetworkManager/system-connections/guest.nmconnection <<END
[connection]
id=guest
type=ethernet
interface-name=eth0
[ipv4]
method=auto
[ipv6]
method=auto
END
chmod 600 /etc/NetworkManager/system-connections/guest.nmconnection
dbus-daemon --system --nofork --nopidfile &
while [ ! -S /run/dbus/system_bus_socket ]; do sleep 0.05; done
exec NetworkManager --no-daemon
";

/// Firefox, steered by its own remote protocol: Marionette, `length:[type, id, name, arguments]`.
struct Firefox {
    _process: Background,
    stream: TcpStream,
    next: u32,
}

impl Firefox {
    #[track_caller]
    fn start(lab: &Lab, guest: &Guest) -> Self {
        assert!(Path::new("/usr/bin/firefox-esr").exists(), "install firefox-esr");
        let home: PathBuf = lab.folder().join("firefox");
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        // As a person's: Marionette's own preferences would turn the detection off.
        let settings = "user_pref(\"network.captive-portal-service.enabled\", true);\n\
             user_pref(\"network.connectivity-service.enabled\", true);\n\
             user_pref(\"remote.prefs.recommended\", false);\n";
        fs::write(home.join("user.js"), settings).unwrap();
        let (home_text, log) = (home.to_str().unwrap(), lab.folder().join("firefox.log"));
        let home_env = format!("HOME={home_text}");
        let args = [
            "env",
            &home_env,
            "MOZ_DISABLE_CONTENT_SANDBOX=1",
            "firefox-esr",
            "--headless",
            "--marionette",
            "--remote-allow-system-access",
            "--no-remote",
            "--profile",
            home_text,
        ];
        let process = guest.netns.spawn(&args, &log);
        let stream = until(Duration::from_secs(60), "Firefox to listen", || {
            guest.connect("127.0.0.1", 2828).0.ok()
        });
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut firefox = Self { _process: process, stream, next: 0 };
        firefox.read();
        firefox.call("WebDriver:NewSession", &json!({}));
        firefox.call("Marionette:SetContext", &json!({ "value": "chrome" }));
        firefox
    }

    /// Runs a script in the browser itself.
    #[track_caller]
    fn ask(&mut self, script: &str) -> Value {
        let script = format!(
            "const portals = Cc['@mozilla.org/network/captive-portal-service;1']\
                 .getService(Ci.nsICaptivePortalService);\
             const bar = Services.wm.getMostRecentWindow('navigator:browser')\
                 ?.gNotificationBox?.getNotificationWithValue('captive-portal-detected');\
             {script}"
        );
        self.call("WebDriver:ExecuteScript", &json!({ "script": script, "args": [] }))["value"]
            .clone()
    }

    #[track_caller]
    fn call(&mut self, name: &str, arguments: &Value) -> Value {
        self.next += 1;
        let message = json!([0, self.next, name, arguments]).to_string();
        write!(self.stream, "{}:{message}", message.len()).unwrap();
        let answer = self.read();
        assert!(answer[2].is_null(), "{name}: {answer}");
        answer[3].clone()
    }

    fn read(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            match byte[0] {
                b':' => break,
                digit => length = length * 10 + usize::from(digit - b'0'),
            }
        }
        let mut message = vec![0; length];
        self.stream.read_exact(&mut message).unwrap();
        serde_json::from_slice(&message).unwrap()
    }
}
