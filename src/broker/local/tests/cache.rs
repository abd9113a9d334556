//! The cached events of cache channels.

use super::*;

#[test]
fn a_cache_channel_keeps_its_last_event_until_it_expires() {
    let mut test = test(|app| app.cache_ttl_s = 10);
    assert_eq!(decoded(&test.subscribe(0, "cache-c", None).cached.unwrap()).0, "pusher:cache_miss");
    test.publish("cache-c", "1");
    test.publish("cache-c", "2");
    test.unsubscribe(0, "cache-c", None);
    test.now += Duration::from_secs(9);
    on_tick(&test.broker, &test.hub, test.now);
    assert_eq!(decoded(&test.subscribe(0, "cache-c", None).cached.unwrap()).1, json!(2));
    let (data, ttl) = channel(&test.hub, &name("cache-c"), test.now).cached.unwrap();
    assert_eq!((data.as_str(), ttl), (r#""2""#, Duration::from_secs(1)));

    test.now += Duration::from_secs(1);
    assert_eq!(decoded(&test.subscribe(0, "cache-c", None).cached.unwrap()).0, "pusher:cache_miss");
}

#[test]
fn an_expired_event_of_an_empty_channel_is_forgotten() {
    let mut test = test(|app| app.cache_ttl_s = 10);
    test.publish("cache-c", "1");
    test.now += Duration::from_secs(5);
    test.publish("cache-c", "2");
    test.now += Duration::from_secs(6);
    on_tick(&test.broker, &test.hub, test.now);
    assert!(channel(&test.hub, &name("cache-c"), test.now).cached.is_some());
    assert!(test.has_no_channels(), "no connection is subscribed");
    test.now += Duration::from_secs(5);
    on_tick(&test.broker, &test.hub, test.now);
    assert_eq!(cache_stats(&test.hub).bytes, 0);
}

#[test]
fn a_lower_limit_evicts_and_the_miss_is_reported() {
    let test = test(|_| {});
    test.publish("cache-a", "123");
    test.publish("cache-b", "123");
    let mut config = test.hub.app().config.clone();
    config.max_cache_bytes = 1_024;
    test.hub.reconfigure(App::new(config));
    apply_config(&test.broker, &test.hub, test.now);
    let summary = |text: &str| channel(&test.hub, &name(text), test.now).cached;
    assert_eq!((summary("cache-a"), summary("cache-b").is_some()), (None, true));
    assert_eq!(cache_stats(&test.hub).evicted, 1);
    let cached = |text: &str| test.subscribe(0, text, None).cached.unwrap();
    assert_eq!(decoded(&cached("cache-a")).0, "pusher:cache_miss");
    assert_eq!(decoded(&cached("cache-b")).0, "e");
}
