//! Transactions for kernels before 6.3, which can delete what is there, and cannot destroy what may
//! not be.

use super::batch::{Transaction, kind, message_type};
use super::message::{NLM_F_ACK, NLM_F_REQUEST, split};

impl Transaction {
    /// Whether such a kernel refuses it (EINVAL).
    pub fn destroys(&self) -> bool {
        messages(&self.bytes).any(|message| instead(kind_of(message)).is_some())
    }

    /// The same without destroying: what is there is deleted, by the word of `stands`, which is
    /// shown a request for it and the request's number. `None`: nothing is left to do.
    pub fn for_older_kernel<E>(
        &self,
        mut stands: impl FnMut(u32, &[u8]) -> Result<bool, E>,
    ) -> Result<Option<Self>, E> {
        let (mut bytes, mut last) = (Vec::with_capacity(self.bytes.len()), None);
        for message in messages(&self.bytes) {
            let mut message = message.to_vec();
            if let Some((get, delete)) = instead(kind_of(&message)) {
                set(&mut message, KIND, message_type(get));
                set(&mut message, FLAGS, NLM_F_REQUEST | NLM_F_ACK);
                if !stands(number_of(&message), &message)? {
                    continue;
                }
                set(&mut message, KIND, message_type(delete));
                set(&mut message, FLAGS, NLM_F_REQUEST);
            }
            // Not the begin, nor the end.
            if kind_of(&message) >= message_type(0) {
                last = Some(bytes.len());
            }
            bytes.extend_from_slice(&message);
        }
        Ok(last.map(|at| {
            let message = &mut bytes[at..];
            let flags = half(message, FLAGS) | NLM_F_ACK;
            set(message, FLAGS, flags);
            let last_seq = number_of(message);
            Self { bytes, first_seq: self.first_seq, last_seq }
        }))
    }
}

/// Places in the netlink header, whose numbers are in the host's order.
const KIND: usize = 4;
const FLAGS: usize = 6;
const NUMBER: usize = 8;

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (message, rest) = split(bytes)?;
        bytes = rest;
        Some(message)
    })
}

/// How to ask for what a message destroys, and how to delete it.
fn instead(message: u16) -> Option<(u8, u8)> {
    const TABLE: u16 = message_type(kind::DESTROYTABLE);
    const ELEMENTS: u16 = message_type(kind::DESTROYSETELEM);
    match message {
        TABLE => Some((kind::GETTABLE, kind::DELTABLE)),
        ELEMENTS => Some((kind::GETSETELEM, kind::DELSETELEM)),
        _ => None,
    }
}

fn kind_of(message: &[u8]) -> u16 {
    half(message, KIND)
}

fn half(message: &[u8], place: usize) -> u16 {
    u16::from_ne_bytes([message[place], message[place + 1]])
}

fn number_of(message: &[u8]) -> u32 {
    message[NUMBER..].first_chunk().copied().map_or(0, u32::from_ne_bytes)
}

fn set(message: &mut [u8], place: usize, value: u16) {
    message[place..place + 2].copy_from_slice(&value.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::wire::nft::batch::Batch;
    use crate::wire::nft::element::Element;

    fn kinds(transaction: &Transaction) -> Vec<(u16, bool)> {
        let acked = |message: &[u8]| half(message, FLAGS) & NLM_F_ACK != 0;
        messages(&transaction.bytes).map(|message| (kind_of(message), acked(message))).collect()
    }

    fn older(batch: Batch, there: &[u32]) -> Option<Transaction> {
        let transaction = batch.finish().unwrap();
        let older = transaction.for_older_kernel(|number, request| {
            assert_eq!(number_of(request), number);
            Ok::<_, Infallible>(there.contains(&number))
        });
        older.unwrap()
    }

    fn batch() -> Batch {
        let mut batch = Batch::new("t", 7, None);
        batch.add_elements("s", &[Element::key(vec![1])]);
        batch.destroy_elements("s", &[Element::key(vec![2]), Element::key(vec![3])]);
        batch
    }

    #[test]
    fn what_is_there_is_deleted_and_the_rest_left_alone() {
        let (begin, end) = ((16, false), (17, false));
        let add = message_type(kind::NEWSETELEM);
        let delete = message_type(kind::DELSETELEM);
        let some = older(batch(), &[10]).unwrap();
        assert_eq!(kinds(&some), [begin, (add, false), (delete, true), end]);
        assert_eq!((some.first_seq, some.last_seq), (7, 10));
        let none = older(batch(), &[]).unwrap();
        assert_eq!(kinds(&none), [begin, (add, true), end]);
        assert_eq!(none.last_seq, 8);
    }

    #[test]
    fn a_transaction_may_come_to_nothing() {
        let mut batch = Batch::new("t", 1, None);
        batch.destroy_table();
        assert!(older(batch, &[]).is_none());
        let mut batch = Batch::new("t", 1, None);
        batch.delete_table();
        assert!(!batch.finish().unwrap().destroys());
    }
}
