//! Real clients in front of the real gateway: the libraries that people use, each with the few lines that they write.
//!
//! Every client goes through the same: it lists, calls what is allowed, is denied, is told to wait, and after a human's
//! consent at the command line the identical call runs. What counts is what the client hands to its user: a sentence that
//! says so, at each step. Not covered: what a model makes of it, and what goes over the wire (`third_party` compares that).

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

#[path = "clients/docs.rs"]
mod docs;
#[path = "clients/script.rs"]
mod script;
mod support;
#[path = "clients/world.rs"]
mod world;

use countersign_model::{Body, ReasonCode};
use script::{Lab, Runtime, Script};
use support::Installation;
use world::World;

macro_rules! clients {
    ($($name:ident: $runtime:ident $file:literal $world:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                finishes(&Script { runtime: Runtime::$runtime, file: $file }, World::$world).await;
            }
        )*
    };
}

clients! {
    python_sdk_1: Mcp1 "mcp_1.py" memory;
    python_sdk_2: Mcp2 "mcp_2.py" memory;
    typescript_sdk_1: Node "ts_1.mjs" memory;
    typescript_sdk_2: Node "ts_2.mjs" memory;
    fastmcp: Mcp2 "fastmcp_client.py" memory;
    openai_agents: Mcp2 "openai_agents_client.py" memory;
    langchain_mcp_adapters: Mcp1 "langchain_mcp_adapters_client.py" memory;
    pydantic_ai: Mcp2 "pydantic_ai_client.py" memory;
    mcpadapt: Mcp1 "mcpadapt_client.py" memory;
    inspector: Mcp2 "inspector.py" memory;

    python_sdk_2_before_both_eras: Mcp2 "mcp_2.py" git;
    typescript_sdk_2_before_both_eras: Node "ts_2.mjs" git;
    fastmcp_before_both_eras: Mcp2 "fastmcp_client.py" git;
    openai_agents_before_both_eras: Mcp2 "openai_agents_client.py" git;
    pydantic_ai_before_both_eras: Mcp2 "pydantic_ai_client.py" git;
}

/// What every client must get through.
async fn finishes(script: &Script, world: fn(&Lab) -> World) {
    let Some(lab) = Lab::find() else { return };
    let world = world(&lab);
    let at = Installation::new(&world.setup());
    let gateway = at.up().await;
    let mut client = lab.start(script, &gateway.url, &at.token());
    let listed = client.listed();
    let wanted = [world.allowed.tool, world.denied.tool, world.gated.tool];
    assert!(wanted.iter().all(|tool| listed.iter().any(|name| name == tool)), "{listed:?}");

    let allowed = client.call(&world.allowed);
    assert!(allowed.text.contains(world.allowed.answer) && allowed.failed != Some(true), "{allowed:?}");

    let denied = client.call(&world.denied);
    assert_ne!(denied.failed, Some(false), "a denial is a failure: {denied:?}");
    assert!(denied.text.contains("Denied by Countersign; nothing has happened."), "{denied:?}");
    assert!(denied.text.contains(ReasonCode::PolicyForbid.sentence()), "{denied:?}");

    let parked = client.call(&world.gated);
    let ticket = ticket(&parked.text);
    assert!(parked.text.contains("send the identical call again"), "{parked:?}");
    // Where a tool declares a schema of its output, only an error may come without such output.
    assert_ne!(parked.failed, Some(!world.gated.schema), "{parked:?}");
    let still = client.call(&world.gated);
    assert!(still.text.contains("still waits") && still.text.contains(&ticket), "{still:?}");
    assert_eq!(world.effects(), 0, "nothing happens before somebody consents");

    at.approve(&ticket);
    let ran = client.call(&world.gated);
    assert!(ran.text.contains(world.gated.answer) && ran.failed != Some(true), "{ran:?}");
    let anew = client.call(&world.gated);
    assert_ne!(self::ticket(&anew.text), ticket, "a consent is good for one call");
    client.finish();
    gateway.stop().await;
    assert_eq!(world.effects(), 1);
    recorded(&at);
}

/// The ticket as a reader finds it in the text.
fn ticket(text: &str) -> String {
    let mut words = text.split(|other: char| !(other.is_ascii_alphanumeric() || other == '-'));
    words.find(|word| word.starts_with("t-")).unwrap_or_else(|| panic!("no ticket: {text}")).to_owned()
}

/// The log verifies, and holds what the client did and no mishap: a look for a newer revision is all that may be refused.
fn recorded(at: &Installation) {
    assert_eq!(at.run(&["log", "verify"]).code, 0);
    let mut kinds = Vec::new();
    for entry in at.records() {
        match &entry.record.body {
            Body::Refused(refused) => assert_eq!(refused.reason.code, ReasonCode::Unsupported, "{refused:?}"),
            body => kinds.push(body.kind()),
        }
    }
    let count = |kind: &str| kinds.iter().filter(|found| **found == kind).count();
    let counted = ["intent", "outcome", "denial", "proposal", "consent"].map(count);
    assert_eq!(counted, [2, 2, 1, 2, 1], "{kinds:?}");
}
