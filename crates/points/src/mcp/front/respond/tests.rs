use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// What comes of `work` for who waits, once what is to run after it has run.
async fn ran(work: impl Future<Output = Vec<u8>> + Send + 'static) -> Option<Vec<u8>> {
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let answer = run(work, move || over.store(true, Ordering::SeqCst)).await.ok();
    assert!(is_over.load(Ordering::SeqCst), "what comes after has not run");
    answer
}

#[tokio::test]
async fn what_comes_after_runs_before_the_answer_and_where_there_is_none() {
    assert_eq!(ran(async { b"answer".to_vec() }).await.as_deref(), Some(&b"answer"[..]));
    assert_eq!(ran(async { panic!("the work fails") }).await, None);
}

#[tokio::test]
async fn work_ends_although_nobody_waits() {
    let (begin, begun) = oneshot::channel::<()>();
    let (over, is_over) = oneshot::channel();
    let work = async move {
        let _ = begun.await;
        Vec::new()
    };
    drop(run(work, move || over.send(()).unwrap()));
    drop(begin);
    is_over.await.unwrap();
}
