//! Against an HQ that names guests.

use super::*;
use crate::adapters::store::tests::guest;
use crate::domain::effect::{Answer, Report};
use crate::domain::event::{Command, Event};
use crate::domain::names::Renamed;

/// A loop that does as it is told, and what that was.
fn house() -> (Inbox, Arc<Mutex<Vec<Renamed>>>) {
    let (inbox, mut outlet) = Inbox::new();
    let told = Arc::<Mutex<Vec<_>>>::default();
    let kept = Arc::clone(&told);
    std::thread::spawn(move || {
        while let Some(envelope) = outlet.blocking_recv() {
            let (Event::Control { command: Command::Rename(names), .. }, Some((_, reply))) =
                (envelope.event, envelope.reply)
            else {
                panic!("not asked for here")
            };
            kept.lock().unwrap().push(names);
            let _ = reply.send(Answer::Control(Report::Done));
        }
    });
    (inbox, told)
}

const NAMED: &str = r#"{"watermark": 4, "guests": {
    "01010101010101010101010101010101": "09090909090909090909090909090909",
    "02020202020202020202020202020202": null,
    "00000000000000000000000000000000": "09090909090909090909090909090909"}}"#;

#[test]
fn whom_hq_names_is_heard_before_the_batch_counts_as_sent() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Plan::new(folder.path()).open();
    bench.put([opened(1, 1, Some(1), 1), opened(2, 2, Some(2), 2), opened(3, 3, Some(3), 3)]);
    bench.put((1..=3).map(|n| closed(n, 5, n + 5)));
    bench.put([opened(4, 4, None, 4), closed(4, 5, 9)]);
    // Nobody hears: the batch comes again.
    let hq = Office::open([Reply::Body(NAMED)]);
    let deaf = Settings { guests: Some(Inbox::new().0), ..settings(&hq.url) };
    assert!(matches!(sync(&bench, &deaf), Err(SyncError::Busy(_))));
    assert_eq!(outbox(&bench), 4);
    let (inbox, told) = house();
    let hq = Office::open([Reply::Body(NAMED)]);
    let settings = Settings { guests: Some(inbox), ..settings(&hq.url) };
    assert_eq!(sync(&bench, &settings).unwrap().rows, 4);
    let names = [(guest(1), guest(9)), (guest(2), GuestKey::NOBODY)];
    assert_eq!(*told.lock().unwrap(), [names.into()]);
    let visits = |key| bench.store.reader().guest(guest(key)).unwrap().visits.len();
    assert_eq!([1, 2, 3, 9].map(visits), [0, 0, 1, 1]);
    assert_eq!(outbox(&bench), 0);
    bench.close();
}

#[test]
fn a_store_that_makes_its_own_keys_passes_over_hqs_names() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Plan::new(folder.path()).open();
    bench.put([opened(1, 1, Some(1), 1), closed(1, 5, 6)]);
    bench.put((2..=4).flat_map(|n| [opened(n, n, None, n), closed(n, 5, n + 5)]));
    let hq = Office::open([Reply::Body(NAMED)]);
    assert_eq!(sync(&bench, &settings(&hq.url)).unwrap().rows, 4);
    assert_eq!(bench.store.reader().guest(guest(1)).unwrap().visits.len(), 1);
    bench.close();
}

#[test]
fn names_may_be_many_but_not_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Plan::new(folder.path()).open();
    bench.put((1..=200).flat_map(|n| [opened(n, n, None, n), closed(n, 5, n + 5)]));
    let name = |n: u64| format!("\"{n:032x}\": \"{:032x}\"", n + 1000);
    let names: Vec<String> = (1..=200).map(name).collect();
    let answer = format!("{{\"watermark\": 200, \"guests\": {{{}}}}}", names.join(", "));
    assert!(answer.len() > 4096);
    let (inbox, told) = house();
    let hq = Office::open([Reply::Body(answer.leak())]);
    let mut settings = Settings { batch: 200, guests: Some(inbox), ..settings(&hq.url) };
    assert_eq!(sync(&bench, &settings).unwrap().rows, 200);
    assert_eq!(told.lock().unwrap()[0].len(), 200);
    bench.put([opened(201, 1, None, 300), closed(201, 5, 305)]);
    let hq = Office::open([Reply::Flood]);
    settings.url.clone_from(&hq.url);
    assert!(matches!(sync(&bench, &settings), Err(SyncError::Watermark { .. })));
    bench.close();
}
