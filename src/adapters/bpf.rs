//! Classic BPF: programs that sort packets in the kernel (`Documentation/networking/filter.rst`).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

use libc::{BPF_JMP, BPF_K, BPF_LD, c_int, sock_filter, socklen_t};

/// Lets into `socket` only what `program` passes, for good.
pub fn attach(socket: &impl AsFd, program: &[sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    // The kernel only reads the program, whatever its pointer's type says.
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    set(socket, libc::SO_ATTACH_FILTER, &program)?;
    set::<c_int>(socket, libc::SO_LOCK_FILTER, &1)
}

#[allow(unsafe_code)]
fn set<T>(socket: &impl AsFd, option: c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value`, and what it points to, outlives the call and is passed with its own length;
    // `attach` gives each option the type that it is documented with.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            socklen_t::try_from(size_of::<T>()).unwrap_or(socklen_t::MAX),
        )
    };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// An instruction that tests nothing.
pub const fn statement(code: u32, k: u32) -> sock_filter {
    instruction(code, k, 0, 0)
}

/// Loads from the packet into the accumulator.
pub const fn load(mode: u32, k: u32) -> sock_filter {
    statement(BPF_LD | mode, k)
}

/// A jump by a comparison with `k`. `here` is its own place: targets are written as places and
/// stored as distances, and a jump backwards does not compile.
pub const fn jump(here: u8, test: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    instruction(BPF_JMP | test | BPF_K, k, yes - here - 1, no - here - 1)
}

/// An instruction, by its places in `sock_filter`.
#[allow(clippy::cast_possible_truncation)] // The kernel's codes have 16 bits; libc's constants 32.
pub const fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
pub(crate) mod tests {
    use libc::{
        BPF_ABS, BPF_H, BPF_IND, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JSET, BPF_LDX, BPF_MEM, BPF_MSH,
        BPF_RET, BPF_ST, BPF_X, SKF_AD_OFF, SKF_AD_PKTTYPE, SKF_AD_VLAN_TAG,
        SKF_AD_VLAN_TAG_PRESENT, SKF_LL_OFF,
    };

    use super::*;

    /// A packet as the kernel sees it: the bytes that the socket gets, and what it knows besides.
    #[derive(Clone, Copy, Default)]
    pub(crate) struct Packet<'a> {
        pub(crate) bytes: &'a [u8],
        pub(crate) ethernet: &'a [u8],
        pub(crate) kind: u8,
        pub(crate) vlan: Option<u16>,
    }

    impl Packet<'_> {
        /// A load from beyond the packet ends the program.
        fn load(&self, offset: u32, size: usize) -> Option<u32> {
            let (base, bytes) = match offset.cast_signed() {
                0.. => (0, self.bytes),
                SKF_LL_OFF..SKF_AD_OFF => (SKF_LL_OFF, self.ethernet),
                _ => return self.known(offset.cast_signed() - SKF_AD_OFF),
            };
            let start = usize::try_from(offset.cast_signed() - base).unwrap();
            let bytes = bytes.get(start..)?.get(..size)?;
            Some(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
        }

        fn known(&self, what: i32) -> Option<u32> {
            match what {
                SKF_AD_PKTTYPE => Some(self.kind.into()),
                SKF_AD_VLAN_TAG_PRESENT => Some(self.vlan.is_some().into()),
                SKF_AD_VLAN_TAG => Some(self.vlan.unwrap_or(0).into()),
                _ => None,
            }
        }
    }

    /// How many of the packet's bytes the program passes, as the kernel runs it.
    pub(crate) fn run(program: &[sock_filter], packet: Packet<'_>) -> u32 {
        pass(program, packet).unwrap_or(0)
    }

    fn pass(program: &[sock_filter], packet: Packet<'_>) -> Option<u32> {
        let (mut a, mut x, mut memory) = (0_u32, 0_u32, [0; 16]);
        let mut steps = program.iter();
        loop {
            let step = steps.next().expect("a program ends with BPF_RET");
            let code = u32::from(step.code);
            let size = || [4, 2, 1][usize::from(step.code >> 3 & 3)];
            match (code & 7, code & 0xe0) {
                (BPF_RET, _) => return Some(step.k),
                (BPF_LD, BPF_ABS) => a = packet.load(step.k, size())?,
                (BPF_LD, BPF_IND) => a = packet.load(x + step.k, size())?,
                (BPF_LDX, BPF_MSH) => x = (packet.load(step.k, 1)? & 15) * 4,
                (BPF_LDX, BPF_MEM) => x = memory[step.k as usize],
                (BPF_ST, _) => memory[step.k as usize] = a,
                (BPF_JMP, _) => {
                    let other = if code & BPF_X == 0 { step.k } else { x };
                    let holds = match code & 0xf0 {
                        BPF_JEQ => a == other,
                        BPF_JGE => a >= other,
                        BPF_JGT => a > other,
                        BPF_JSET => a & other != 0,
                        _ => panic!("jump {code:#x}"),
                    };
                    let skipped = usize::from(if holds { step.jt } else { step.jf });
                    steps = steps.as_slice()[skipped..].iter();
                }
                _ => panic!("instruction {code:#x}"),
            }
        }
    }

    #[test]
    fn a_load_from_beyond_the_packet_passes_nothing() {
        let program = [load(BPF_H | BPF_ABS, 1), statement(BPF_RET | BPF_K, 9)];
        assert_eq!(run(&program, Packet { bytes: &[1, 2, 3], ..Packet::default() }), 9);
        assert_eq!(run(&program, Packet { bytes: &[1, 2], ..Packet::default() }), 0);
    }
}
