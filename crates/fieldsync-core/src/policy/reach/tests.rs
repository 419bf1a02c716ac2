//! The decisions about the link.

use super::*;

const PACE: Pace = Pace {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(15),
    jitter: Duration::from_millis(500),
};

fn open(addresses: &[&str]) -> Uplink {
    Uplink::Up(addresses.iter().map(|address| address.parse().unwrap()).collect())
}

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(7)
}

#[test]
fn without_any_way_nothing_is_tried_until_one_comes() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    assert_eq!(reach.saw(Uplink::Down, &PACE, &mut rng), Next::Rest);
    assert_eq!(reach.state(), LinkState::Offline);
    assert_eq!(reach.wanted(&PACE, &mut rng), Next::Rest);
    assert_eq!(reach.met(Evidence::Unreachable, true, &PACE, &mut rng), Next::Rest);
    assert_eq!(reach.stirred(&PACE, &mut rng), Next::Stay);
    let Next::Return(wait) = reach.saw(open(&["10.0.0.2"]), &PACE, &mut rng) else { panic!() };
    assert!(wait <= PACE.jitter);
    assert_eq!((reach.state(), reach.returns()), (LinkState::Offline, 0), "not before the moment is over");
    reach.returned();
    assert_eq!((reach.state(), reach.returns()), (LinkState::Unknown, 1));
}

#[test]
fn a_server_that_is_away_behind_a_good_link_is_probed_ever_more_seldom_and_news_of_the_link_end_that() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    reach.saw(open(&["10.0.0.2"]), &PACE, &mut rng);
    assert_eq!(reach.state(), LinkState::Unknown);
    for probe in 1..20 {
        let next = reach.met(Evidence::Unreachable, true, &PACE, &mut rng);
        assert_eq!(reach.met(Evidence::Unreachable, true, &PACE, &mut rng), Next::Stay);
        match next {
            Next::Probe(wait) if probe % PROBES_A_BATCH != 0 => {
                assert!(probe < 5 || wait >= PACE.longest / 10);
                reach.probed();
            }
            Next::Return(_) if probe % PROBES_A_BATCH == 0 => reach.returned(),
            other => panic!("{other:?}"),
        }
    }
    let returns = reach.returns();
    assert!(matches!(reach.stirred(&PACE, &mut rng), Next::Return(wait) if wait <= PACE.jitter));
    reach.returned();
    assert_eq!(reach.met(Evidence::Unreachable, false, &PACE, &mut rng), Next::Rest, "nobody asks");
    assert!(matches!(reach.wanted(&PACE, &mut rng), Next::Probe(_)));
    assert_eq!(reach.met(Evidence::Reached, true, &PACE, &mut rng), Next::Rest);
    assert_eq!((reach.state(), reach.returns()), (LinkState::Online, returns + 2));
}

#[test]
fn a_link_that_flaps_and_leads_nowhere_is_tried_less_and_less_often() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    let mut waits = Vec::new();
    for _ in 0..12 {
        reach.saw(Uplink::Down, &PACE, &mut rng);
        let Next::Return(wait) = reach.saw(open(&["10.0.0.2"]), &PACE, &mut rng) else { panic!() };
        waits.push(wait);
        reach.returned();
    }
    assert!(waits[0] <= PACE.jitter && waits[11] >= PACE.longest / 10, "{waits:?}");
    reach.met(Evidence::Reached, true, &PACE, &mut rng);
    reach.saw(Uplink::Down, &PACE, &mut rng);
    assert!(
        matches!(reach.saw(open(&["10.0.0.2"]), &PACE, &mut rng), Next::Return(wait) if wait <= PACE.jitter)
    );
}

#[test]
fn who_no_longer_looks_does_not_wait_for_a_way() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    reach.saw(Uplink::Down, &PACE, &mut rng);
    assert!(matches!(reach.saw(Uplink::Unknown, &PACE, &mut rng), Next::Return(_)));
    reach.returned();
    assert!(matches!(reach.met(Evidence::Unreachable, true, &PACE, &mut rng), Next::Probe(_)));
}

#[test]
fn a_return_that_is_gone_before_its_moment_is_none() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    reach.saw(Uplink::Down, &PACE, &mut rng);
    reach.saw(open(&["10.0.0.2"]), &PACE, &mut rng);
    assert_eq!(reach.saw(Uplink::Down, &PACE, &mut rng), Next::Rest);
    assert_eq!((reach.state(), reach.returns()), (LinkState::Offline, 0));
}

#[test]
fn connections_end_with_their_address_and_with_a_way_that_stays_closed() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    reach.saw(open(&["10.0.0.2"]), &PACE, &mut rng);
    reach.saw(open(&["10.0.0.2", "10.1.0.2"]), &PACE, &mut rng);
    assert_eq!((reach.moves(), reach.paths()), (0, 0), "one more does no harm");
    reach.saw(open(&["10.1.0.2"]), &PACE, &mut rng);
    assert_eq!((reach.moves(), reach.paths()), (1, 0));
    reach.given_up();
    assert_eq!(reach.paths(), 0, "it came back before");
    reach.saw(Uplink::Down, &PACE, &mut rng);
    reach.given_up();
    assert_eq!(reach.paths(), 1);
    reach.woke(&PACE, &mut rng);
    assert_eq!(reach.paths(), 2);
}

#[test]
fn a_return_that_is_planned_comes_however_much_else_stirs() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    reach.saw(open(&["10.0.0.2"]), &PACE, &mut rng);
    reach.met(Evidence::Unreachable, true, &PACE, &mut rng);
    assert!(matches!(reach.stirred(&PACE, &mut rng), Next::Return(_)), "it takes the place of a probe");
    assert_eq!(reach.stirred(&PACE, &mut rng), Next::Stay);
    assert_eq!(reach.saw(open(&["10.0.0.3"]), &PACE, &mut rng), Next::Stay);
    reach.returned();
    assert_eq!(reach.state(), LinkState::Unknown);
}

#[test]
fn an_answer_is_believed_whatever_the_interfaces_look_like() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    reach.saw(Uplink::Down, &PACE, &mut rng);
    reach.met(Evidence::Reached, true, &PACE, &mut rng);
    assert_eq!(reach.state(), LinkState::Online);
    assert_eq!(reach.saw(Uplink::Down, &PACE, &mut rng), Next::Stay);
    assert_eq!(reach.state(), LinkState::Online);
    let next = reach.met(Evidence::Unreachable, true, &PACE, &mut rng);
    assert!(matches!(next, Next::Probe(_)), "who has been wrong is not relied on: {next:?}");
    reach.saw(open(&["10.0.0.2"]), &PACE, &mut rng);
    assert_eq!(reach.saw(Uplink::Down, &PACE, &mut rng), Next::Rest, "until it is right again");
}

#[test]
fn a_person_does_not_wait_and_a_device_that_slept_tries_at_once() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    reach.saw(Uplink::Down, &PACE, &mut rng);
    assert_eq!(reach.hurried(), Next::Probe(Duration::ZERO));
    reach.probed();
    reach.saw(open(&["10.0.0.2"]), &PACE, &mut rng);
    reach.met(Evidence::Reached, true, &PACE, &mut rng);
    let returns = reach.returns();
    assert_eq!(reach.woke(&PACE, &mut rng), Next::Stay);
    assert_eq!(reach.returns(), returns + 1, "what waits may go on");
}
