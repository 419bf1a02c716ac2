//! What readers of the feed get.

use super::*;

/// What the reader gets without waiting: the names and data of events, without their ids.
fn read_all(reader: &mut Reader) -> Vec<String> {
    let frames = std::iter::from_fn(|| reader.take_pending());
    let text = |frame: Bytes| String::from_utf8(frame.to_vec()).unwrap();
    frames.map(|frame| text(frame).trim_end().lines().skip(1).collect::<Vec<_>>().join(" ")).collect()
}

fn id(frame: &[u8]) -> String {
    let text = String::from_utf8(frame.to_vec()).unwrap();
    let id = text.lines().find_map(|line| line.strip_prefix("id: "));
    id.unwrap().to_owned()
}

#[test]
fn a_reader_hears_what_happens_from_now_on() {
    let feed = Feed::default();
    feed.publish("record", &0);
    let mut reader = feed.subscribe(Audience::ADMINS, None);
    assert!(read_all(&mut reader).is_empty());
    feed.publish("record", &1);
    feed.publish("batch", &2);
    assert_eq!(read_all(&mut reader), ["event: record data: 1", "event: batch data: 2"]);
}

#[test]
fn a_reader_that_comes_back_gets_exactly_what_it_missed() {
    let feed = Feed::default();
    let mut first = feed.subscribe(Audience::ADMINS, None);
    let opening = id(&first.first_event(&"status"));
    for n in 0..3 {
        feed.publish("record", &n);
    }
    let seen = id(&first.take_pending().unwrap());
    drop(first);
    feed.publish("record", &3);
    let mut back = feed.subscribe(Audience::ADMINS, Some(&seen));
    assert_eq!(id(&back.first_event(&"status")), seen, "what is lost on the way can be asked for again");
    assert_eq!(
        read_all(&mut back),
        ["event: record data: 1", "event: record data: 2", "event: record data: 3"]
    );
    assert_eq!(read_all(&mut feed.subscribe(Audience::ADMINS, Some(&opening))).len(), 4);
}

#[test]
fn a_slow_reader_is_told_how_much_it_missed() {
    let feed = Feed::default();
    let mut reader = feed.subscribe(Audience::ADMINS, None);
    for n in 0..RING_EVENTS_MAX + 10 {
        feed.publish("record", &n);
    }
    let all = read_all(&mut reader);
    assert_eq!(all.len(), RING_EVENTS_MAX + 1);
    assert_eq!(
        all[..2],
        [r#"event: gap data: {"missed":10,"reason":"slow_reader"}"#, "event: record data: 10"]
    );
}

#[test]
fn who_may_not_see_all_gets_the_redacted_form_with_the_same_id() {
    let feed = Feed::default();
    let [mut submitter, mut member, mut others, mut admin] = [
        Audience::new(54_321, false),
        Audience::new(54_322, false),
        Audience::OTHERS,
        Audience::new(54_322, true),
    ]
    .map(|audience| feed.subscribe(audience, None));
    feed.publish_redacted("record", &"all", Some(54_321), &"less");
    feed.publish_redacted("progress", &"all", None, &"less");
    feed.publish("batch", &"same");
    let frames: Vec<Bytes> = std::iter::from_fn(|| submitter.take_pending()).collect();
    let ids: Vec<String> = frames.iter().map(|frame| id(frame)).collect();
    assert_eq!(ids, std::iter::from_fn(|| member.take_pending()).map(|frame| id(&frame)).collect::<Vec<_>>());
    let heard_by = |record: &str, progress: &str| {
        [("record", record), ("progress", progress), ("batch", "same")]
            .map(|(name, data)| format!("event: {name} data: \"{data}\""))
    };
    let texts = |frames: &[Bytes]| -> Vec<String> {
        let lines = frames.iter().map(|frame| String::from_utf8(frame.to_vec()).unwrap());
        lines.map(|text| text.trim_end().lines().skip(1).collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(texts(&frames), heard_by("all", "less"));
    assert_eq!(read_all(&mut others), heard_by("less", "less"));
    assert_eq!(read_all(&mut admin), heard_by("all", "all"));
    let mut again =
        feed.subscribe(Audience::new(54_322, false), Some(&format!("{:08x}-0", feed.lock_ring().run)));
    assert_eq!(read_all(&mut again), heard_by("less", "less"));
}

#[test]
fn both_forms_of_an_event_count_towards_the_bound_in_bytes() {
    let feed = Feed::default();
    let mut reader = feed.subscribe(Audience::OTHERS, None);
    let text = "x".repeat(RING_BYTES_MAX / 10);
    for n in 0..100 {
        feed.publish_redacted("record", &format!("{text}{n}"), Some(1), &text);
    }
    assert!(feed.lock_ring().bytes <= RING_BYTES_MAX, "{}", feed.lock_ring().bytes);
    assert_eq!(read_all(&mut reader).len(), 1 + 4, "a gap, and what is kept");
}

#[test]
fn bytes_are_bounded_too_and_the_newest_event_is_always_there() {
    let feed = Feed::default();
    let mut reader = feed.subscribe(Audience::ADMINS, None);
    for _ in 0..100 {
        feed.publish("record", &"x".repeat(RING_BYTES_MAX / 10));
    }
    assert!(feed.lock_ring().bytes <= RING_BYTES_MAX, "{}", feed.lock_ring().bytes);
    assert_eq!(read_all(&mut reader).len(), 10);
    feed.publish("record", &"x".repeat(RING_BYTES_MAX * 2));
    assert_eq!(read_all(&mut reader).len(), 1);
}

#[test]
fn events_are_not_recorded_without_readers_and_a_late_reader_learns_of_the_gap() {
    let feed = Feed::default();
    let reader = feed.subscribe(Audience::ADMINS, None);
    let seen = id(&reader.first_event(&"status"));
    drop(reader);
    for n in 0..=RING_EVENTS_MAX {
        feed.publish("record", &n);
    }
    assert!(feed.lock_ring().events.is_empty());
    let mut back = feed.subscribe(Audience::ADMINS, Some(&seen));
    assert_eq!(read_all(&mut back), [r#"event: gap data: {"missed":null,"reason":"not_kept"}"#]);
    feed.publish("record", &"new");
    assert_eq!(read_all(&mut back), [r#"event: record data: "new""#]);
}

#[test]
fn ids_of_another_run_and_malformed_ids_get_different_reasons() {
    let (before, feed) = (Feed::default(), Feed::default());
    let seen = id(&before.subscribe(Audience::ADMINS, None).first_event(&"status"));
    let _reader = feed.subscribe(Audience::ADMINS, None);
    feed.publish("record", &1);
    let ahead = format!("{:08x}-99", feed.lock_ring().run);
    for (last, reason) in [
        (seen.as_str(), "daemon_restarted"),
        ("", "unknown_id"),
        ("17", "unknown_id"),
        ("x-y", "unknown_id"),
        (ahead.as_str(), "unknown_id"),
    ] {
        let gap = format!(r#"event: gap data: {{"missed":null,"reason":"{reason}"}}"#);
        assert_eq!(
            read_all(&mut feed.subscribe(Audience::ADMINS, Some(last))),
            [gap.as_str(), "event: record data: 1"],
            "{last}"
        );
    }
}
