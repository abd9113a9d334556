//! The requests of a client that need authorization: subscriptions and sign-ins.

use super::{Action, Session, error_budget::ErrorBudget, message_limiter::Decision};
use crate::{
    app::App,
    protocol::{
        ChannelName, Member, ProtocolError, SignIn, SignInRejection, Subscribe,
        SubscriptionRejection, User,
    },
};
use std::{sync::Arc, time::Instant};

impl<H> Session<H> {
    pub(super) fn subscribe<'a>(
        &mut self,
        app: &App,
        request: Subscribe,
        now: Instant,
    ) -> Result<Action<'a, H>, ProtocolError> {
        let rejection = match self.check_subscribe(app, &request) {
            Ok((channel, member)) => {
                match self.subscribe_limiter.check_rate(self.config.subscribe_rate(), now) {
                    Decision::Allow => return Ok(Action::Subscribe { channel, member }),
                    Decision::Drop => SubscriptionRejection::Rate,
                    Decision::Close => return Err(ProtocolError::TooManyMessages),
                }
            }
            Err(rejection) => rejection,
        };
        if matches!(rejection, SubscriptionRejection::Auth(_)) {
            self.error_budget.spend(ErrorBudget::UNAUTHORIZED, now)?;
        }
        Err(ProtocolError::Subscription { channel: request.channel, rejection })
    }

    fn check_subscribe(
        &self,
        app: &App,
        request: &Subscribe,
    ) -> Result<(ChannelName, Option<Member>), SubscriptionRejection> {
        let limits = &app.config;
        let channel = ChannelName::parse(&request.channel, limits.max_channel_name_length)
            .map_err(SubscriptionRejection::Name)?;
        if self.subscriptions.contains_key(&channel) {
            return Err(SubscriptionRejection::AlreadySubscribed);
        }
        let max = self.config.max_channels;
        if max <= self.subscriptions.len() {
            return Err(SubscriptionRejection::TooMany { max });
        }
        let channel_data = request.channel_data.as_deref();
        if channel.needs_auth() {
            app.authorize_channel(
                request.auth.as_deref(),
                self.socket_id,
                channel.as_str(),
                channel_data,
            )
            .map_err(SubscriptionRejection::Auth)?;
        }
        if let Some(user_id) = channel.server_to_user() {
            let is_user = self.user().is_some_and(|user| &*user.id == user_id);
            return if is_user {
                Ok((channel, None))
            } else {
                Err(SubscriptionRejection::OtherUser)
            };
        }
        let member =
            if channel.is_presence() { Some(self.member(app, channel_data)?) } else { None };
        Ok((channel, member))
    }

    /// The joining member: that of `channel_data`, else the signed-in user.
    fn member(
        &self,
        app: &App,
        channel_data: Option<&str>,
    ) -> Result<Member, SubscriptionRejection> {
        let limits = app.member_limits();
        match (channel_data, self.user()) {
            (Some(data), _) => Member::parse(data, limits),
            (None, Some(user)) => {
                Member::from_user(Arc::clone(&user.id), user.info.as_deref(), limits)
            }
            (None, None) => Err(SubscriptionRejection::MemberMissing),
        }
    }

    pub(super) fn sign_in<'a>(
        &mut self,
        app: &App,
        request: SignIn,
        now: Instant,
    ) -> Result<Action<'a, H>, ProtocolError> {
        if !app.config.user_authentication {
            return Err(ProtocolError::SignInDisabled);
        }
        match self.check_sign_in(app, &request) {
            Ok(user) => {
                match self.subscribe_limiter.check_rate(self.config.subscribe_rate(), now) {
                    Decision::Allow => {
                        let user_data = user.user_data_for_client(request.user_data);
                        Ok(Action::SignIn { user, user_data })
                    }
                    Decision::Drop => Err(ProtocolError::MessageRate { channel: None }),
                    Decision::Close => Err(ProtocolError::TooManyMessages),
                }
            }
            Err(rejection) => {
                if matches!(rejection, SignInRejection::Auth(_)) {
                    self.error_budget.spend(ErrorBudget::UNAUTHORIZED, now)?;
                }
                Err(ProtocolError::SignIn(rejection))
            }
        }
    }

    fn check_sign_in(&self, app: &App, request: &SignIn) -> Result<User, SignInRejection> {
        app.authorize_user(request.auth.as_deref(), self.socket_id, &request.user_data)
            .map_err(SignInRejection::Auth)?;
        let user = User::parse(&request.user_data, app.config.max_channel_name_length)?;
        match self.user() {
            Some(present) if present.id != user.id => Err(SignInRejection::OtherUser),
            Some(_) | None => Ok(user),
        }
    }
}
