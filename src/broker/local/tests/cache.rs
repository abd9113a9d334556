//! The last events of cache channels.

use super::*;

#[test]
fn a_cache_channel_keeps_its_last_event_until_it_expires() {
    let mut bench = bench(|app| app.cache_ttl_s = 10);
    assert_eq!(
        decoded(&bench.subscribe(0, "cache-c", None).cached.unwrap()).0,
        "pusher:cache_miss"
    );
    bench.publish("cache-c", "1");
    bench.publish("cache-c", "2");
    bench.unsubscribe(0, "cache-c", None);
    bench.now += Duration::from_secs(9);
    on_tick(&bench.hub, bench.now);
    assert_eq!(decoded(&bench.subscribe(0, "cache-c", None).cached.unwrap()).1, json!(2));
    let (data, ttl) = channel(&bench.hub, &name("cache-c"), bench.now).cached.unwrap();
    assert_eq!((data.as_str(), ttl), (r#""2""#, Duration::from_secs(1)));

    bench.now += Duration::from_secs(1);
    assert_eq!(
        decoded(&bench.subscribe(0, "cache-c", None).cached.unwrap()).0,
        "pusher:cache_miss"
    );
}

#[test]
fn an_expired_event_of_an_empty_channel_is_forgotten() {
    let mut bench = bench(|app| app.cache_ttl_s = 10);
    bench.publish("cache-c", "1");
    bench.now += Duration::from_secs(5);
    bench.publish("cache-c", "2");
    bench.now += Duration::from_secs(6);
    on_tick(&bench.hub, bench.now);
    assert!(channel(&bench.hub, &name("cache-c"), bench.now).cached.is_some());
    assert!(bench.has_no_channels(), "no connection is subscribed");
    bench.now += Duration::from_secs(5);
    on_tick(&bench.hub, bench.now);
    assert_eq!(cache_stats(&bench.hub).bytes, 0);
}

#[test]
fn a_lower_limit_evicts_and_the_miss_is_reported() {
    let bench = bench(|_| {});
    bench.publish("cache-a", "123");
    bench.publish("cache-b", "123");
    let mut config = bench.hub.app().config.clone();
    config.max_cache_bytes = 1_024;
    bench.hub.reconfigure(App::new(config));
    apply_config(&bench.hub);
    let summary = |text: &str| channel(&bench.hub, &name(text), bench.now).cached;
    assert_eq!((summary("cache-a"), summary("cache-b").is_some()), (None, true));
    assert_eq!(cache_stats(&bench.hub).evicted, 1);
    let cached = |text: &str| bench.subscribe(0, text, None).cached.unwrap();
    assert_eq!(decoded(&cached("cache-a")).0, "pusher:cache_miss");
    assert_eq!(decoded(&cached("cache-b")).0, "e");
}
