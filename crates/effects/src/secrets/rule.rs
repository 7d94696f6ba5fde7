//! The rules by name. A name is stable: it stands in records and in what is exported from them.
//!
//! It must not know how a rule looks for its secrets.

macro_rules! rules {
    ($($name:ident $id:literal $doc:literal)*) => {
        /// What a secret was known by.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $(#[doc = $doc] $name,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable word.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// What stands in the place of a secret.
            #[must_use]
            pub const fn marker(self) -> &'static str {
                match self { $(Self::$name => concat!("[redacted:", $id, "]"),)* }
            }
        }
    };
}

rules! {
    PrivateKey "private-key" "A private key in PEM or OpenSSH form."
    AwsAccessKey "aws-access-key" "The id of an AWS access key."
    GithubToken "github-token" "A token of GitHub."
    GitlabToken "gitlab-token" "A token of GitLab."
    SlackToken "slack-token" "A token or incoming webhook of Slack."
    StripeKey "stripe-key" "A secret or restricted key of Stripe, or the secret of a webhook."
    OpenaiKey "openai-key" "An API key of OpenAI, or of one who spells keys the same way."
    AnthropicKey "anthropic-key" "An API key of Anthropic."
    GoogleKey "google-key" "An API key, OAuth token or client secret of Google."
    ServiceToken "service-token" "A token of another service that marks its tokens: npm, PyPI, Hugging Face, SendGrid, Vault, …"
    Jwt "jwt" "A JSON Web Token, signed or encrypted."
    Authorization "authorization" "Credentials of an HTTP authorization header: Bearer, Basic and others."
    ConnectionPassword "connection-password" "The password in a URL or connection string."
    Password "password" "A value under the name of a password."
    SecretValue "secret-value" "A value that looks random under the name of a secret, token or key."
    CardNumber "card-number" "The number of a payment card, with a right check digit."
}

/// Whether a text is a marker already, so that redacting twice changes nothing.
pub(super) fn is_marker(text: &str) -> bool {
    text.strip_prefix("[redacted:")
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|id| Rule::ALL.iter().any(|rule| rule.id() == id))
}
