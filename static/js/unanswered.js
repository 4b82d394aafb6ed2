// Says so when a request made by htmx got no usable answer: without this, a click or a poll would fail in silence.
const region = document.getElementById("messages");

function tell(text) {
  const notice = document.createElement("div");
  notice.className = "notice";
  notice.dataset.status = "error";
  notice.dataset.unanswered = "";
  notice.textContent = text;
  region.querySelector("[data-unanswered]")?.remove();
  region.append(notice);
}

document.addEventListener("htmx:sendError", () => {
  tell("Keepwell does not answer, so this page may be out of date. Check that it runs and that you are online, then reload.");
});
document.addEventListener("htmx:responseError", (event) => {
  const status = event.detail.xhr.status;
  tell(
    status === 403
      ? "Nothing was changed: your account may not do this, or the page is out of date. Reload it and try again."
      : `Keepwell answered with error ${status}, so nothing on this page was updated. Reload it and try again.`,
  );
});
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) region.querySelector("[data-unanswered]")?.remove();
});
