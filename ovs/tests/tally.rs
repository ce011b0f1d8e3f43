//! How transactions end is counted for the whole process; so this is one of its own.

use ovsdb::session::{Transactions, transactions};
use ovsdb::{Session, SessionOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

async fn reply(far: &mut DuplexStream, result: Value, error: Value) {
    let mut text = vec![0; 4096];
    let read = far.read(&mut text).await.unwrap();
    let asked: Value = serde_json::from_slice(&text[..read]).unwrap();
    assert_eq!(asked["method"], "transact");
    let reply = json!({ "id": asked["id"], "result": result, "error": error });
    far.write_all(reply.to_string().as_bytes()).await.unwrap();
}

#[tokio::test]
async fn each_end_of_a_transaction_is_counted() {
    let (near, mut far) = tokio::io::duplex(4096);
    let session = Session::over(near, SessionOptions::default());
    let mut expected = Transactions::default();
    assert_eq!(transactions(), expected);

    let (asked, ()) =
        tokio::join!(session.transact("db", &[]), reply(&mut far, json!([]), Value::Null));
    asked.unwrap().unwrap();
    expected.committed += 1;
    assert_eq!(transactions(), expected);

    let no = json!("unknown database");
    let (asked, ()) = tokio::join!(session.transact("db", &[]), reply(&mut far, Value::Null, no));
    asked.unwrap().unwrap_err();
    expected.rejected += 1;
    assert_eq!(transactions(), expected);

    // What makes no sense says nothing of what was done.
    let (asked, ()) =
        tokio::join!(session.transact("db", &[]), reply(&mut far, json!({}), Value::Null));
    asked.unwrap().unwrap_err();
    expected.unanswered += 1;
    assert_eq!(transactions(), expected);

    // Nobody waits for the reply.
    tokio::select! {
        biased;
        _ = session.transact("db", &[]) => panic!("nobody has answered"),
        () = std::future::ready(()) => {}
    }
    expected.unanswered += 1;
    assert_eq!(transactions(), expected);

    drop(far);
    session.transact("db", &[]).await.unwrap_err();
    expected.unanswered += 1;
    assert_eq!(transactions(), expected);
}
