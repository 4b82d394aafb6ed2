// Says so when a request made by htmx got no usable answer: without this, a click or a poll would fail in silence.
// Looked up each time: going back in the history replaces the page.
const region = () => document.getElementById("messages");
const TYPED = "main form[method=post] :is(textarea, select, input:not([type=hidden]))";

function tell(status, text, link) {
  const said = region().querySelector("[data-unanswered]");
  if (said?.dataset.unanswered === text) return;
  said?.remove();
  const notice = document.createElement("div");
  notice.className = "notice";
  notice.dataset.status = status;
  notice.dataset.unanswered = text;
  const words = document.createElement("div");
  words.className = "notice-words";
  words.textContent = text;
  notice.append(words);
  if (link) notice.append(link);
  region().append(notice);
}

function signedOut(address) {
  // What is shown stands still from here on: nothing may look as if it were going on.
  document.body.dataset.stale = "";
  const link = document.createElement("a");
  link.className = "notice-action";
  link.href = address;
  link.textContent = "Sign in again";
  tell(
    "warning",
    document.querySelector(TYPED)
      ? "You were signed out, so this page is not updated any more. What you have typed is not lost: send the form, sign in when you are asked to, and it is filled in again."
      : "You were signed out, so this page is not updated any more.",
    link,
  );
}

document.addEventListener("htmx:sendError", () => {
  tell("error", "Keepwell does not answer, so this page may be out of date. Check that it runs and that you are online, then reload.");
});
document.addEventListener("htmx:responseError", (event) => {
  const { status } = event.detail.xhr;
  if (status === 401) {
    signedOut(event.detail.xhr.getResponseHeader("Sign-In-At") ?? "/account/login/");
    return;
  }
  tell(
    "error",
    status === 403
      ? "Nothing was changed: your account may not do this, or the page is out of date. Reload it and try again."
      : `Keepwell answered with error ${status}, so nothing on this page was updated. Reload it and try again.`,
  );
});
document.addEventListener("htmx:afterRequest", (event) => {
  if (!event.detail.successful) return;
  delete document.body.dataset.stale;
  region().querySelector("[data-unanswered]")?.remove();
});
