//! What passes through the router, to guests and from them.
//!
//! A packet of a guest who is online costs one look-up, in [`UP`] or [`DOWN`]: looking things up in
//! sets is what costs most here. The connection's mark tells the session, so the first packet, which
//! has none, takes the long way and sets it.
//!
//! [`UP`] knows a device by four bytes of its MAC, since a longer key would cost a third more. That
//! is as safe: whoever forges four bytes forges six. And it is as exact: of devices that are alike in
//! these four, one stands in [`UP`], and only the marks of such sessions lead there (the sole bit).

use super::parts::{
    CT_ORIGINAL, GRANTED_MARK, Side, answer, bit, cmp, ct, device, eq, ethernet, goto, granted,
    guest, jump, lookup, mask, mask_in, rule, sender, sender_tail,
};
use super::pass::BLOCKED;
use super::ruleset::{DOWN, Plan, QUOTA, UP, UP_ALIKE};
use crate::wire::nft::expr::{CmpOp, CtKey, Expr, MetaKey, Reg, Verdict};
use crate::wire::nft::keys;
use crate::wire::nft::object::Rule;

/// Where the packets of sessions with a quota on both directions together go on.
pub(super) const WITHIN: &str = "within";
/// Where packets go whose mark is ours in part.
const SHARED: &str = "shared_mark";

impl Plan {
    pub(super) fn forward(&self) -> Vec<Rule> {
        let mut rules = self.online();
        rules.extend(self.upload());
        rules.extend(self.begin());
        rules.extend(self.garden("download", Side::Source, &Verdict::Accept));
        rules.extend(self.app_answers("download"));
        rules.push(rule("download", [], [Expr::Verdict(Verdict::Drop)]));
        rules
    }

    /// What guests who are online send and get. Downloads carry no source MAC: they are known by
    /// the mark that the upload left on the connection, and come as answers alone, from outside: an
    /// answer that comes from a guest network is forged.
    ///
    /// To cut our part out of the mark has its price, too: for downloads it is done where others write
    /// into it. No element matches a mark with others' bits.
    fn online(&self) -> Vec<Rule> {
        let whole = || vec![Expr::Ct { key: CtKey::Mark, dreg: Reg::R0 }];
        let to = |mark| [answer(), self.outside(), mark];
        vec![
            rule("guest_forward", [onwards(), self.sole()], [sender_tail(), verdict_of(UP)]),
            rule("guest_forward", to(whole()), [verdict_of(DOWN)]),
            rule("guest_forward", [self.shared()], [jump(SHARED)]),
            rule(SHARED, to(self.session()), [verdict_of(DOWN)]),
            rule("guest_forward", [guest(MetaKey::IifName)], [goto("upload")]),
            rule("guest_forward", [guest(MetaKey::OifName)], [goto("download")]),
            rule(WITHIN, [whole()], [verdict_of(QUOTA)]),
            rule(WITHIN, [self.shared(), self.session()], [verdict_of(QUOTA)]),
            rule(WITHIN, [answer()], [Expr::Verdict(Verdict::Drop)]),
            rule(WITHIN, [], [goto("deny")]),
        ]
    }

    /// What a guest sends that no session holds: too fast, too late, or the first of its connection.
    /// On a session's connection it gets no answer, which would go to the session's guest, whoever
    /// sent it.
    fn upload(&self) -> Vec<Rule> {
        let chain = "upload";
        let none = ct(CtKey::Mark, eq(0));
        let drop = || Expr::Verdict(Verdict::Drop);
        let mut rules = vec![
            rule(chain, [onwards(), self.station()], [verdict_of(UP_ALIKE)]),
            rule(chain, [answer()], [drop()]),
        ];
        rules.extend(self.after_pass(chain));
        rules.extend([
            rule(chain, [self.not_of_pass(), self.marked(CmpOp::Neq)], [drop()]),
            rule(chain, [none, ether_device()], [granted(), set_mark(GRANTED_MARK), goto("begin")]),
            rule(
                chain,
                [self.marked(CmpOp::Eq), ether_device()],
                [granted(), goto("begin_beside")],
            ),
            rule(chain, [ethernet(), sender()], [lookup(BLOCKED), goto("deny")]),
        ]);
        rules.extend(self.garden(chain, Side::Destination, &Verdict::Accept));
        rules.extend(self.with_pass(chain, goto("app_up")));
        rules.push(rule(chain, [], [goto("deny")]));
        rules
    }

    /// Of a granted device's connection, the first packet that we see. Where others have put bits
    /// of their own into the mark, ours are set one by one: before Linux 6.13 rules cannot join two
    /// values.
    fn begin(&self) -> Vec<Rule> {
        let ours = (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| bit & self.mark_mask != 0);
        let mut rules: Vec<_> = ours.map(add_bit).collect();
        rules.extend([
            rule("begin_beside", [], [goto("begin")]),
            rule("begin", [self.sole()], [sender_tail(), verdict_of(UP)]),
            rule("begin", [self.station()], [verdict_of(UP_ALIKE)]),
            rule("begin", [], [Expr::Verdict(Verdict::Drop)]),
        ]);
        rules
    }

    /// Loads the session's part of the connection mark.
    pub(super) fn session(&self) -> Vec<Expr> {
        vec![Expr::Ct { key: CtKey::Mark, dreg: Reg::R0 }, mask(self.mark_mask)]
    }

    /// Loads `ether saddr . mark`, of the mark our part, into registers 0 to 2.
    fn station(&self) -> Vec<Expr> {
        let mark = Expr::Ct { key: CtKey::Mark, dreg: Reg(2) };
        [sender(), vec![mark, mask_in(Reg(2), self.mark_mask)]].concat()
    }

    /// The connection is of a session that stands in [`UP`].
    fn sole(&self) -> Vec<Expr> {
        ct(CtKey::Mark, bit(self.sole_bit()))
    }

    /// Whether the connection has (`Neq`) a mark of ours.
    fn marked(&self, op: CmpOp) -> Vec<Expr> {
        [self.session(), vec![cmp(op, 0u32.to_ne_bytes())]].concat()
    }

    /// The connection is none of a pass.
    fn not_of_pass(&self) -> Vec<Expr> {
        ct(CtKey::Mark, [vec![mask(self.pass_bit())], eq(0)].concat())
    }

    /// Others have put bits of their own into the connection's mark.
    fn shared(&self) -> Vec<Expr> {
        ct(CtKey::Mark, bit(!self.mark_mask))
    }

    /// The packet came from no guest network. Comparing a few names costs less than a look-up.
    fn outside(&self) -> Vec<Expr> {
        let names = self.zones.iter().map(|zone| keys::ifname(&zone.interface));
        let others = names.map(|data| Expr::Cmp { op: CmpOp::Neq, sreg: Reg::R0, data });
        std::iter::once(Expr::Meta { key: MetaKey::IifName, dreg: Reg::R0 }).chain(others).collect()
    }
}

/// The packet goes the way that its connection began.
fn onwards() -> Vec<Expr> {
    ct(CtKey::Direction, vec![cmp(CmpOp::Eq, [CT_ORIGINAL])])
}

fn ether_device() -> Vec<Expr> {
    [ethernet(), device()].concat()
}

fn verdict_of(map: &str) -> Expr {
    Expr::VerdictMap { map: map.into(), sreg: Reg::R0 }
}

fn set_mark(sreg: Reg) -> Expr {
    Expr::CtSet { key: CtKey::Mark, sreg }
}

/// Sets a bit of the connection's mark, if the device's session has it in its own.
fn add_bit(bit: u32) -> Rule {
    let bitwise = |sreg, dreg, mask: u32, xor: u32| Expr::Bitwise {
        sreg,
        dreg,
        mask: mask.to_ne_bytes().to_vec(),
        xor: xor.to_ne_bytes().to_vec(),
    };
    rule(
        "begin_beside",
        [ether_device()],
        [
            granted(),
            bitwise(GRANTED_MARK, Reg::R0, bit, 0),
            cmp(CmpOp::Neq, 0u32.to_ne_bytes()),
            Expr::Ct { key: CtKey::Mark, dreg: Reg::R0 },
            bitwise(Reg::R0, Reg::R0, !bit, bit),
            set_mark(Reg::R0),
        ],
    )
}
